__version__: str

from . import derived as derived
from . import errors as errors
from . import experiments as experiments
from . import integrations as integrations
from . import optim as optim
from . import plots as plots
from . import report as report
from . import schema as schema
from . import stats as stats
from . import store as store
from .derived.aggregate import aggregate as aggregate
from .derived.compare.maps import compare_runs as compare_runs
from .derived.health.check import check_health as check_health
from .derived.select import select as select
from .optim.smes import SMES as SMES
from .record.finalize.memory import RecordingMemory as RecordingMemory
from .record.finalize.memory import estimate_memory as estimate_memory
from .record.recorder import Recorder as Recorder
from .store.read.recording import latest as latest
from .store.read.recording import open_recording as open_recording
from .store.read.runs import open_runs as open_runs
