"""A SPICE viewer without a screen: spice_viewer.py FILE.vv TEXT

Reads the file as remote-viewer does, opens the channels main, display, inputs and cursor, types TEXT (a-z) into the
guest and looks at the picture. Prints one JSON object; status 0 when a picture came.
"""

import configparser
import ctypes
import json
import sys
import tempfile

import gi

gi.require_version("SpiceClientGLib", "2.0")
from gi.repository import GLib, GObject, SpiceClientGLib as Spice  # noqa: E402

PATIENCE_MS = 60_000
# Session and Channel have a `connect` of their own.
connect = GObject.Object.connect
SCAN_CODES = {
    letter: code
    for row, first in (("qwertyuiop", 0x10), ("asdfghjkl", 0x1E), ("zxcvbnm", 0x2C))
    for code, letter in enumerate(row, first)
}


class Viewer:
    def __init__(self, path, text):
        self.loop = GLib.MainLoop()
        self.text = list(text)
        self.channels = []
        self.inputs = None
        self.surface = None
        self.shown = False
        self.answer = {"error": "no picture in time"}
        self.session = self.session_of(path)

    def session_of(self, path):
        parser = configparser.RawConfigParser()
        parser.optionxform = str
        parser.read(path)
        file = dict(parser["virt-viewer"])
        session = Spice.Session()
        for name in ("host", "tls-port", "password", "proxy"):
            session.set_property(name, file[name])
        session.set_property("cert-subject", file["host-subject"])
        session.set_property("verify", Spice.SessionVerify.SUBJECT)
        # Setting the property "ca" from Python crashes: a file does the same.
        self.ca = tempfile.NamedTemporaryFile("w", suffix=".pem")
        self.ca.write(file["ca"].replace("\\n", "\n"))
        self.ca.flush()
        session.set_property("ca-file", self.ca.name)
        for name in ("enable-usbredir", "enable-smartcard", "enable-audio"):
            session.set_property(name, False)
        connect(session, "channel-new", self.on_channel)
        return session

    def run(self):
        GLib.timeout_add(PATIENCE_MS, self.loop.quit)
        GLib.timeout_add(40, self.type_next)
        if Spice.Session.connect(self.session):
            self.loop.run()
        self.answer["channels"] = self.channels
        return self.answer

    def on_channel(self, _session, channel):
        connect(channel, "channel-event", self.on_event)
        if isinstance(channel, Spice.DisplayChannel):
            connect(channel, "display-primary-create", self.on_surface)
            connect(channel, "display-mark", self.on_mark)
        if isinstance(channel, (Spice.DisplayChannel, Spice.InputsChannel, Spice.CursorChannel)):
            Spice.Channel.connect(channel)

    def on_event(self, channel, event):
        kind = Spice.Channel.type_to_string(channel.get_property("channel-type"))
        if event == Spice.ChannelEvent.OPENED:
            self.channels.append(kind)
            if isinstance(channel, Spice.InputsChannel):
                self.inputs = channel
        elif event != Spice.ChannelEvent.SWITCHING:
            error = channel.get_error()
            self.end({"error": f"{kind}: {event.value_nick}: {error.message if error else ''}"})

    def on_surface(self, _channel, _format, width, height, stride, _shared, data):
        self.surface = (width, height, stride, data)

    def on_mark(self, _channel, mark):
        self.shown = self.shown or bool(mark)

    def type_next(self):
        if not (self.shown and self.inputs and self.surface):
            return True
        if self.text:
            Spice.InputsChannel.key_press_and_release(self.inputs, SCAN_CODES[self.text.pop(0)])
            return True
        # The guest draws what was typed.
        GLib.timeout_add(500, self.look)
        return False

    def look(self):
        width, height, stride, data = self.surface
        pixels = ctypes.string_at(data, stride * height)
        lit = sum(1 for red in pixels[2::4] if red > 127)
        self.end({"error": None, "width": width, "height": height, "lit_pixels": lit})
        return False

    def end(self, answer):
        self.answer = answer
        self.loop.quit()


result = Viewer(*sys.argv[1:]).run()
print(json.dumps(result))
sys.exit(1 if result["error"] else 0)
