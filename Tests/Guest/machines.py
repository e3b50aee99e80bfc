"""What ring 3 is made of: the emulator and the far node on this side, the virtual machine, and its disk."""
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds from power to the first command on a machine that does nothing else; limits are meant for such a one.
USUAL_BOOT = 15.0


class GuestDied(RuntimeError):
    """The virtual machine itself stands still or has ended: nothing can be said of our programs."""


class Pace:
    """How much slower than usual this machine emulates. All limits are multiplied by it; what is waited for decides, not the clock."""

    factor = 1.0

    @classmethod
    def measured(cls, boot):
        cls.factor = min(max(1.0, boot / USUAL_BOOT), 6.0)


def until(deadline, look, step=0.1):
    """Waits for `look` to be true: at least `deadline` seconds of a usual machine, and at least fifteen looks. - Returns the seconds that took, or None."""
    start, looks = time.monotonic(), 0
    while time.monotonic() - start < deadline * Pace.factor or looks < 15:
        looks += 1
        if look():
            return time.monotonic() - start
        time.sleep(step)
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Emulator:
    """Devices, on this side."""

    def __init__(self, build, folder, testbed=f"{HERE}/guest.yaml", endpoints=7, pace=("--pace", "real")):
        self.log = open(f"{folder}/emulator-{os.path.basename(testbed)}.log", "w+")
        self.process = subprocess.Popen(
            [f"{build}/qkd-emulator", "--testbed", testbed, "--json", "--any-ports", *pace], stdout=self.log, stderr=self.log
        )
        if until(20, lambda: len(self.endpoints()) == endpoints) is None:
            self.log.seek(0)
            raise RuntimeError("the emulator did not start: " + self.log.read())
        uris = [e["uri"] for e in self.endpoints()]
        self.port = next(re.search(r":(\d+)/", u).group(1) for u in uris if u.startswith("usbip:"))
        self.pty = next(u.split(":", 1)[1] for u in uris if u.startswith(("serial:", "pty:")))

    def endpoints(self):
        with open(self.log.name) as file:
            lines = [line for line in file if line.startswith("{")]
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
        return [entry for entry in found if entry.get("event") == "endpoint"]

    def dial(self, serial):
        """A line to a device's SCPI, beside what the guest says to it."""
        uri = next(e["uri"] for e in self.endpoints() if e["device"] == serial and e["transport"] == "tcp")
        host, port = uri.split(":")[1:3]
        return socket.create_connection((host, int(port)), timeout=10)

    def ask(self, serial, message, answers=True):
        with self.dial(serial) as line:
            line.sendall(message.encode() + b"\n")
            return line.makefile().readline().strip() if answers else ""

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class FarNode:
    """The transmitter's node: a link service on this side, whose device is the emulator's other one."""

    def __init__(self, build, folder, device, near, far):
        self.folder = f"{folder}/far"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(f"{self.folder}/run", mode=0o700)
        text = open(f"{HERE}/far.yaml").read().replace("DEVICE", device).replace("NEAR", str(near)).replace("FAR", str(far))
        with open(f"{self.folder}/linkd.yaml", "w") as file:
            file.write(text)
        shutil.copy(f"{folder}/secret", f"{self.folder}/far")
        os.chmod(f"{self.folder}/far", 0o600)
        self.log = open(f"{self.folder}/log", "w")
        self.process = subprocess.Popen([f"{build}/qkd-linkd", "--config", f"{self.folder}/linkd.yaml"], stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Guest:
    """The virtual machine, and a shell in it."""

    # One processor: with two, each waits for the other where the machine below gives time to one of them only, and the kernel in the guest
    # takes that for a lockup. Its watchdogs go by the wall clock, which says nothing here.
    MACHINE = ["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm", "-smp", "1", "-m", "1024", "-display", "none", "-nodefaults"]
    KERNEL = ("console=ttyS0 root=/dev/vda quiet loglevel=3 panic=-1 mitigations=off no5lvl nowatchdog tsc=reliable "
              "rcupdate.rcu_cpu_stall_suppress=1 random.trust_cpu=on systemd.show_status=0 net.ifnames=0")

    def __init__(self, base, disk, folder, share, pty, near):
        self.folder = folder
        self.begin = time.monotonic()
        for left in ("host.sock", "qmp.sock", "console.txt"):
            if os.path.exists(f"{folder}/{left}"):
                os.remove(f"{folder}/{left}")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", *self.MACHINE, "-kernel", f"{base}/vmlinuz", "-initrd", f"{base}/initrd.gz", "-append", self.KERNEL,
             # The disk stays as it was made: another guest can begin with it.
             "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,snapshot=on", "-serial", f"file:{folder}/console.txt",
             "-device", "virtio-serial-pci", "-chardev", f"socket,id=host,path={folder}/host.sock,server=on,wait=off",
             "-device", "virtserialport,chardev=host,name=host",
             "-virtfs", f"local,path={share},mount_tag=share,security_model=none,id=sh0",
             "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{near}-:7001", "-device", "virtio-net-pci,netdev=n0,romfile=",
             "-object", "rng-random,filename=/dev/urandom,id=r0", "-device", "virtio-rng-pci,rng=r0",
             "-device", "qemu-xhci,id=xhci", "-chardev", f"serial,id=adapter,path={pty}",
             "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off"],
            stdin=subprocess.DEVNULL, stdout=open(f"{folder}/qemu.txt", "w"), stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": folder},
        )
        self.shell = socket.socket(socket.AF_UNIX)
        self.pending = b""
        if until(30, self.connected) is None:
            self.stop()
            raise GuestDied("qemu did not start: " + open(f"{folder}/qemu.txt").read())

    def connected(self):
        """The socket is there before anybody listens at it."""
        try:
            self.shell.connect(f"{self.folder}/host.sock")
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def wait(self, limit):
        """Until the shell says that it is there. - Returns: seconds since its boot began."""
        return float(self.read(re.compile(rb"ready ([\d.]+)\r?\n"), limit)[1].group(1))

    def read(self, pattern, limit):
        end = time.monotonic() + limit
        while True:
            found = pattern.search(self.pending)
            if found:
                before, self.pending = self.pending[: found.start()], self.pending[found.end():]
                return before, found
            self.shell.settimeout(max(0.1, end - time.monotonic()))
            try:
                part = self.shell.recv(65536)
            except OSError:
                part = None
            if not part:
                raise self.death(limit)
            self.pending += part

    def death(self, limit):
        """Its last words."""
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            pass
        console = open(f"{self.folder}/console.txt", errors="replace").read()[-1500:].strip()
        own = open(f"{self.folder}/qemu.txt", errors="replace").read()[-500:].strip()
        how = f"qemu ended with {self.process.returncode}" if self.process.poll() is not None else f"no answer for {limit:.0f} s"
        return GuestDied(f"{how}; last words {self.pending[-300:]!r}; console: {console or '-'}; qemu: {own or '-'}")

    def send(self, line):
        try:
            self.shell.sendall(line.encode() + b"\n")
        except OSError:
            raise self.death(0) from None

    def run(self, command, limit=60):
        """- Returns: status and output of a shell command in the guest; 124 where it took too long, which is the command's fault."""
        limit *= Pace.factor
        self.send(f"timeout -k 5 {limit:.0f} bash -c {shlex.quote(command)}")
        # A guest in which not even that ends is dead.
        before, found = self.read(re.compile(rb"\r?\n\x01(\d+)\r?\n"), limit + 60 * Pace.factor)
        return int(found.group(1)), before.decode(errors="replace").replace("\r", "").strip()

    def does(self, command, limit=60):
        return self.run(command, limit)[0] == 0

    def says(self, command, limit=60):
        return self.run(command, limit)[1]

    def monitor(self, command, **arguments):
        if self.process.poll() is not None:
            raise self.death(0)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f"{self.folder}/qmp.sock")
            file = line.makefile("rw")
            file.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                file.write(json.dumps(request) + "\n")
                file.flush()
                while True:
                    answer = json.loads(file.readline())
                    if "return" in answer or "error" in answer:
                        break
            return answer

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.shell.close()


def disk_image(base, package, folder, share, build, far, check):
    """The base with our package in it, installed by dpkg, and a node's configuration. - `check`: takes condition, text and detail."""
    root = f"{folder}/root"
    subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/root", root], check=True)
    shutil.copy(package, f"{root}/tmp/sdqkd.deb")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    installed = subprocess.run(["chroot", root, "dpkg", "-i", "/tmp/sdqkd.deb"], env=environment, capture_output=True, text=True)
    check(installed.returncode == 0, "the package installs", installed.stdout[-800:] + installed.stderr[-800:])
    os.remove(f"{root}/tmp/sdqkd.deb")
    users = dict(line.split(":")[0:3:2] for line in open(f"{root}/etc/passwd"))
    for name in ("linkd", "lkmsd", "agentd"):
        with open(f"{root}/etc/sdqkd/{name}.yaml", "w") as file:
            file.write(open(f"{HERE}/{name}.yaml").read().replace("FAR", str(far)).replace("LINKD", users.get("qkd-linkd", "?")))
    # An adapter of somebody else's make that this site gives to a device, as docs/attaching-devices.md says.
    os.makedirs(f"{root}/etc/udev/rules.d", exist_ok=True)
    shutil.copy(f"{HERE}/59-qkd-local.rules", f"{root}/etc/udev/rules.d/59-qkd-local.rules")
    os.makedirs(f"{root}/share", exist_ok=True)
    # Programs find their libraries through /proc, which this root does not have before it runs: secrets are made out here.
    secret = subprocess.run([f"{build}/qkdctl", "secret", "make", f"{folder}/secret"], capture_output=True, text=True)
    check(secret.returncode == 0, "qkdctl secret make", secret.stderr)
    shutil.copy(f"{folder}/secret", f"{root}/etc/sdqkd/linkd/far")
    pki = subprocess.run([f"{build}/qkdctl", "pki", "make", "--out", f"{folder}/pki", "--nodes", "alpha,beta", "--saes", "controller"], capture_output=True, text=True)
    check(pki.returncode == 0, "qkdctl pki make", pki.stderr)
    for service in ("lkmsd", "agentd"):
        for name in ("kme-beta.crt", "kme-beta.key", "ca.crt"):
            shutil.copy(f"{folder}/pki/{name}", f"{root}/etc/sdqkd/{service}/{name}")
    with open(f"{root}/etc/sdqkd/lkmsd/alpha", "wb") as file:
        file.write(os.urandom(65536))
    with open(f"{root}/etc/sdqkd/agentd/rules.yaml", "w") as file:
        file.write("clients:\n  controller: controller\n")
    for name in ("controller.crt", "controller.key", "ca.crt"):
        shutil.copy(f"{folder}/pki/{name}", share)
    script = (
        "chgrp qkd /etc/sdqkd/*.yaml && chmod 640 /etc/sdqkd/*.yaml && "
        "for n in linkd lkmsd agentd; do chown -R qkd-$n:qkd /etc/sdqkd/$n && find /etc/sdqkd/$n -type f -exec chmod 600 {} +; done && "
        # The service is to be started by a plug here, not by the boot.
        "rm -f /etc/systemd/system/multi-user.target.wants/qkd-node.target"
    )
    prepared = subprocess.run(["chroot", root, "sh", "-c", script], env=environment, capture_output=True, text=True)
    check(prepared.returncode == 0, "users and folders are there", prepared.stdout + prepared.stderr)
    shutil.copy(f"{build}/usb-exercise", share)
    for name in ("transmitter", "receiver"):
        shutil.copy(f"{ROOT}/Tests/Recordings/{name}.transcript", share)
    disk = f"{folder}/disk.ext4"
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0", "-d", root, disk, "1600M"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)
    return disk
