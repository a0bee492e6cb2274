#!/usr/bin/env python3
"""Restarts a tracker under load, as systemd would, and tells how long each restart took.

Usage: scripts/restarts.py [-n RESTARTS] [-e SECONDS] TRACKER [ARGUMENT...]

  -n RESTARTS   how often (default 3)
  -e SECONDS    how long the tracker serves before each restart (default 8)

The tracker is told to stop (SIGTERM) and started again, with the sockets that it has given away to
be kept (sd_notify: FDSTORE=1), so that what comes meanwhile waits in the kernel. Put load on it
with aquatic_udp_load_test (rate_per_second) at the same time: its report says how many requests
were lost.
"""

import argparse
import array
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

# Descriptors that systemd passes begin here (sd_listen_fds(3)).
FIRST_PASSED = 3
# Where they wait to be moved there, above all that this program has open.
PARKED = 500
DESCRIPTORS_PER_MESSAGE = 64


class ServiceManager:
    """Keeps the sockets of a service, and hears when it is ready."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(self.path)
        self.kept = []

    def receive(self, seconds):
        """One message, as a dictionary; empty if none comes."""
        self.notified.settimeout(seconds)
        room = socket.CMSG_LEN(DESCRIPTORS_PER_MESSAGE * array.array("i").itemsize)
        try:
            message, control, _, _ = self.notified.recvmsg(4096, room)
        except (socket.timeout, BlockingIOError):
            return {}
        told = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
        name = told.get("FDNAME", "stored")
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = array.array("i")
                passed.frombytes(data[: len(data) - len(data) % passed.itemsize])
                self.kept += [(name, descriptor) for descriptor in passed]
        if "FDSTOREREMOVE" in told:
            for _, descriptor in [kept for kept in self.kept if kept[0] == name]:
                os.close(descriptor)
            self.kept = [kept for kept in self.kept if kept[0] != name]
        return told

    def start(self, command):
        """Starts the service, and waits until it is ready."""
        environment = dict(os.environ, NOTIFY_SOCKET=self.path, FDSTORE="1024")
        if self.kept:
            environment["LISTEN_FDS"] = str(len(self.kept))
            environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.kept)
            # Only the process itself knows its number.
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *command]
        service = subprocess.Popen(
            command, env=environment, close_fds=False, preexec_fn=self.pass_descriptors
        )
        while self.receive(0.1).get("READY") != "1":
            if service.poll() is not None:
                sys.exit(f"the tracker has ended: {service.returncode}")
        return service

    def pass_descriptors(self):
        """In the child: none is overwritten before it has been moved."""
        parked = [os.dup2(kept, PARKED + at) for at, (_, kept) in enumerate(self.kept)]
        for at, descriptor in enumerate(parked):
            os.dup2(descriptor, FIRST_PASSED + at, inheritable=True)

    def wait(self, seconds):
        """Listens for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.receive(min(0.1, max(0.001, until - time.monotonic())))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", dest="restarts", type=int, default=3)
    parser.add_argument("-e", dest="seconds", type=float, default=8)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("which tracker?")
    with tempfile.TemporaryDirectory() as folder:
        manager = ServiceManager(folder)
        service = manager.start(arguments.command)
        for _ in range(arguments.restarts):
            manager.wait(arguments.seconds)
            told = time.monotonic()
            service.send_signal(signal.SIGTERM)
            service.wait()
            stopped = time.monotonic()
            service = manager.start(arguments.command)
            ready = time.monotonic()
            print(f"stopped in {stopped - told:.3f} s, ready again {ready - stopped:.3f} s later")
        manager.wait(arguments.seconds)
        service.send_signal(signal.SIGTERM)
        sys.exit(service.wait())


if __name__ == "__main__":
    main()
