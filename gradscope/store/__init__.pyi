from .maintain.export import export as export
from .maintain.repair import Repair as Repair
from .maintain.repair import repair as repair
from .maintain.validate import violations as violations
