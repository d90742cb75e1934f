"""Every error that reluexp raises on purpose.

ReluexpError
├── ConfigError       the config, a name in it or a command-line value is wrong
├── DataError         a data set is missing, unreadable or unfit for the config
├── DeviceError       the device asked for is not there
├── ResultsError      a results folder cannot be read or written
│   ├── DamagedError    a file of the results is not what was written
│   └── StudyBusyError  another process is running this study
├── WatchError        a model cannot be watched, or not in this way
└── Interrupted       the user asked to stop; everything is saved and resumable
"""

__all__ = [
    "ConfigError",
    "DamagedError",
    "DataError",
    "DeviceError",
    "Interrupted",
    "ReluexpError",
    "ResultsError",
    "StudyBusyError",
    "WatchError",
]


class ReluexpError(Exception):
    """Base of all errors that are the user's to mend; the command line shows them without a traceback."""


class ConfigError(ReluexpError):
    """The config, a name in it or a command-line value is wrong."""


class DataError(ReluexpError):
    """A data set is missing, unreadable or unfit for what the config asks of it."""


class DeviceError(ReluexpError):
    """The device that was asked for is not available."""


class ResultsError(ReluexpError):
    """A results folder cannot be read or written."""


class DamagedError(ResultsError):
    """A file of the results is truncated, altered, foreign, or of another format."""


class StudyBusyError(ResultsError):
    """Another process holds the study's lock."""


class Interrupted(ReluexpError):
    """The run was stopped by the user; what was finished is saved and the next run continues."""


class WatchError(ReluexpError):
    """A model cannot be watched, or not with this probe or loss."""
