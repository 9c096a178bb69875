//! Uploads by the clients that people use, and what a large one costs.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use openssl::sha::Sha256;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};
use crate::upload::{PATH, fields, noise, spool_files};

fn curl(site: &Site, gate: &Nodegate, path: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sk", "--max-time", "300", "-b"]);
    command.arg(site.cookie("root@pam").trim_start_matches("Cookie: ").trim());
    command.arg(format!("https://127.0.0.1:{}{path}", gate.port()));
    command
}

fn local_file(site: &Site, name: &str, content: &[u8]) -> PathBuf {
    let path = site.path("/home").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn curl_uploads_files_small_and_large() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for size in [0, 300_000, 15_000_000] {
        let content = noise(size);
        let path = local_file(&site, "a \"b\".iso", &content);
        let quoted = path.display().to_string().replace('"', "\\\"");
        let run = |form: &[&str], more: &[&str]| {
            let before = Instant::now();
            let mut command = curl(&site, &gate, PATH);
            for field in form {
                command.args(["-F", field]);
            }
            let output = command.args(more).args(["-w", "%{http_code}"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("UPID:") && text.ends_with("200"), "{text}");
            assert!(site.daemon.last().upload.unwrap() == content, "{size} {form:?}");
            let got = fields(&site.daemon.last().body);
            // As browsers do; what it means is left to the daemon, as it always was.
            assert!(got.contains(&("filename".to_owned(), "a %22b%22.iso".to_owned())), "{got:?}");
            println!("{size} bytes {more:?}: {:?}", before.elapsed());
        };
        let file = format!("filename=@\"{quoted}\"");
        run(&["content=iso", &file], &[]);
        run(&[&file, "content=iso"], &["-H", "Transfer-Encoding: chunked"]);
        run(&[&file, "content=iso"], &["-H", "Expect: 100-continue"]);
    }
    assert_eq!(spool_files(&site), 0);
}

#[test]
fn curl_sends_a_chunked_body_from_pipes() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let content = noise(15_000_000);
    let head = b"--Bb0undary\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\n";
    let body = local_file(&site, "body", &[&head[..], &content, b"\r\n--Bb0undary--"].concat());
    let output = curl(&site, &gate, PATH)
        .args(["-X", "POST", "-T", "-", "-H", "Content-Type: multipart/form-data; boundary=Bb0undary"])
        .stdin(fs::File::open(body).unwrap())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("UPID:"), "{output:?}");
    assert!(site.daemon.last().upload.unwrap() == content);
}

#[test]
fn curl_reads_a_rejection_during_an_upload() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let path = local_file(&site, "x.iso", &noise(15_000_000));
    for (storage, more) in
        [("forbidden", ""), ("forbidden", "Expect:"), ("broken", "Expect:"), ("broken", "")]
    {
        let output = curl(&site, &gate, &PATH.replace("local", storage))
            .args(["-F", &format!("filename=@{}", path.display()), "-w", "%{http_code}", "-H", more])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = if storage == "broken" { "500" } else { "403" };
        assert!(text.ends_with(expected), "{storage} {more}: {text}");
    }
    assert_eq!(spool_files(&site), 0);
}

#[test]
fn a_killed_client_leaves_nothing() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let path = local_file(&site, "x.iso", &noise(15_000_000));
    let mut child = curl(&site, &gate, PATH)
        .args(["--limit-rate", "3M", "-F", &format!("filename=@{}", path.display())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a spool file", || spool_files(&site) == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the spool file is gone", || spool_files(&site) == 0);
}

#[test]
fn proxmoxer_of_debian_uploads() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let script = r"
import sys, warnings
warnings.simplefilter('ignore')
from proxmoxer import ProxmoxAPI
api = ProxmoxAPI('127.0.0.1', port=int(sys.argv[1]), user='root@pam', password='demo', verify_ssl=False, timeout=60)
for name in sys.argv[2:]:
    print(api.nodes('node1').storage('local').upload.create(content='iso', filename=open(name, 'rb')))
";
    let contents = [noise(300_000), noise(15_000_000)];
    let paths = [local_file(&site, "small.iso", &contents[0]), local_file(&site, "große.iso", &contents[1])];
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script, &gate.port().to_string()])
        .args(&paths)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("UPID:").count(), 2, "{text} {}", String::from_utf8_lossy(&output.stderr));
    let uploads: Vec<_> = site.daemon.requests().into_iter().filter_map(|request| request.upload).collect();
    assert!(uploads == contents);
    let names = ["small.iso", "große.iso"].map(str::to_owned);
    let sent: Vec<_> = site.daemon.requests().iter().filter_map(|request| fields_of(&request.body)).collect();
    assert_eq!(sent, names);
}

fn fields_of(body: &[u8]) -> Option<String> {
    let is_upload = String::from_utf8_lossy(body).contains("tmpfilename=");
    is_upload.then(|| fields(body))?.into_iter().find(|(name, _)| name == "filename").map(|(_, value)| value)
}

fn sha256(path: &Path) -> [u8; 32] {
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut hash = Sha256::new();
    loop {
        let count = file.read(&mut buffer).unwrap();
        if count == 0 {
            return hash.finish();
        }
        hash.update(&buffer[..count]);
    }
}

/// `NODEGATE_TEST_UPLOAD_MB` changes the size; 1024 by default.
#[test]
fn a_large_upload_needs_little_memory() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let megabytes = std::env::var("NODEGATE_TEST_UPLOAD_MB").map_or(1024, |text| text.parse().unwrap());
    // Mostly holes, with something to mix up at every megabyte.
    let path = local_file(&site, "large.iso", b"");
    let source = fs::OpenOptions::new().write(true).open(&path).unwrap();
    source.set_len(megabytes << 20).unwrap();
    for number in 0..megabytes {
        std::os::unix::fs::FileExt::write_all_at(&source, &number.to_le_bytes(), number << 20).unwrap();
    }
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
    let before = gate.kilobytes("VmRSS") * 1024;
    let started = Instant::now();
    let output = curl(&site, &gate, &PATH.replace("local", "kept"))
        .args(["-F", &format!("filename=@{}", path.display())])
        .output()
        .unwrap();
    let elapsed = started.elapsed();
    assert!(String::from_utf8_lossy(&output.stdout).contains("UPID:"), "{output:?}");
    let peak = gate.kilobytes("VmHWM") * 1024;
    println!("{megabytes} MB in {elapsed:?}; {before} bytes before, {peak} at most");
    assert!(peak - before < 16 << 20, "{before} -> {peak}");
    let body = site.daemon.last().body;
    let spool = fields(&body).into_iter().find(|(name, _)| name == "tmpfilename").unwrap().1;
    assert!(sha256(&site.path(&spool)) == sha256(&path));
}
