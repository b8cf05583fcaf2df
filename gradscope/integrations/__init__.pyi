from . import lightning as lightning
from . import sinks as sinks
from . import transformers as transformers
from . import xarray as xarray
