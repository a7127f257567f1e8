//! Exit codes, after sysexits(3): what a scheduler may do next is decided by whose fault it was.

/// The process's exit status, and with it whether running the same command again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 64,
    /// Input data is wrong, or training diverged.
    Data = 65,
    /// Input is missing or cannot be opened.
    NoInput = 66,
    /// Something this machine does not have, such as a CUDA device.
    Unavailable = 69,
    /// A bug in the program.
    Software = 70,
    /// Output cannot be created, or is somebody else's.
    CantCreate = 73,
    /// Reading or writing failed; running again may help.
    Io = 74,
    /// Stopped by a signal, with all that is needed to go on: run the same command again.
    TemporaryFailure = 75,
    /// No permission.
    NoPermission = 77,
    /// A configuration value is wrong.
    Config = 78,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status for an error met while opening or reading an input.
    pub fn of_input(error: &std::io::Error) -> Exit {
        match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::NotADirectory => Exit::NoInput,
            std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::Io,
        }
    }

    /// The status for an error met while creating or opening an output.
    pub fn of_output(error: &std::io::Error) -> Exit {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
                Exit::Io
            }
            _ if error.raw_os_error() == Some(5) => Exit::Io, // EIO has no kind of its own
            _ => Exit::CantCreate,
        }
    }
}

/// An error that knows its exit status.
pub trait Classify: std::error::Error {
    fn exit(&self) -> Exit;
}
