//! An X server without hardware, whose picture is a file.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{missing, undisturbed};

/// Killed when dropped.
pub struct Screen {
    server: Child,
    display: String,
    picture: PathBuf,
}

impl Screen {
    /// The server picks a free display by itself.
    pub fn start(folder: &Path) -> Self {
        let mut command = Command::new("Xvfb");
        command
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-fbdir"])
            .arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().unwrap_or_else(|error| missing(&command, &error));
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let display = format!(":{}", number.trim());
        Self { server, display, picture: folder.join("Xvfb_screen0") }
    }

    /// A command that shows itself here, with a separate home.
    pub fn command(&self, program: &str, home: &Path) -> Command {
        let mut command = Command::new(program);
        undisturbed(&mut command)
            .env("DISPLAY", &self.display)
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .env("GSETTINGS_BACKEND", "memory")
            .env("GDK_BACKEND", "x11")
            .env("NO_AT_BRIDGE", "1")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    /// How many pixels have that colour, `0xRRGGBB`.
    pub fn pixels(&self, colour: u32) -> usize {
        let file = std::fs::read(&self.picture).unwrap_or_default();
        // The X window dump format: header words are big-endian, the picture is in the server's own order.
        let word = |index: usize| {
            let bytes = file.get(index * 4..index * 4 + 4).map_or([0; 4], |bytes| bytes.try_into().unwrap());
            usize::try_from(u32::from_be_bytes(bytes)).unwrap()
        };
        let (header, colours) = (word(0), word(19));
        let picture = file.get(header + colours * 12..).unwrap_or_default();
        let has_colour = |pixel: &[u8]| u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]) == colour;
        picture.chunks_exact(4).filter(|pixel| has_colour(pixel)).count()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.server.wait();
    }
}
