"""The program that turns any Python on a device into our agent (host side).

It is one constant text, passed to `python3 -c`: no name and no path of anybody's is ever part of a command line over
there. It reads one line of JSON, `{"root", "python", "holder", "sha256", "size"}`, answers with one, takes the agent's
archive where the device has none of that hash yet, and becomes the agent, which goes on with the same input and output.
A host that says nothing for a minute is gone.

    root     folder of our own on the device; "" is its user's cache
    python   the interpreter that has the runtime; "" is the one that runs this
    holder   who the device is busy for, as others are told
"""

# Understood by every Python 3, so that one that is too old says so instead of showing a syntax error. Input is read
# without a buffer: what follows belongs to the agent.
BOOTSTRAP = r"""
import fcntl, hashlib, json, os, shutil, signal, stat, sys

def read(most):
    signal.alarm(60)
    got = os.read(0, most)
    signal.alarm(0)
    if not got:
        sys.exit(0)
    return got

def line():
    got = b""
    while not got.endswith(b"\n"):
        got += read(1)
    return json.loads(got.decode())

def say(**answer):
    os.write(1, (json.dumps(answer) + "\n").encode())

def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()

def receive(part, left):
    failure = None
    with open(part, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            while left:
                block = read(min(left, 1 << 16))
                left -= len(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            failure = error
            while left:
                left -= len(read(min(left, 1 << 16)))
            os.ftruncate(file.fileno(), 0)
    if failure:
        raise failure

def home(path):
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise OSError(2, "there is no such home folder", path)
    return found

def refuse(folder):
    raise OSError(1, "others may write to it, or it is not yours (chmod 700)", folder)

def private(root, folder):
    os.makedirs(root, 0o700, exist_ok=True)
    found = os.stat(root)
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:  # else everybody's entries are their own
        refuse(root)
    os.makedirs(folder, 0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        refuse(folder)
    os.chmod(folder, 0o700)

def main():
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
    asked = line()
    if sys.version_info < (3, 8):
        return say(error="Python 3.8 or newer is needed there; python3 is {}.{}".format(*sys.version_info))
    os.umask(0o077)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    global root
    root = os.path.realpath(home(asked["root"] or os.path.join(cache, "cutback")))
    folder = os.path.join(root, "agents")
    path = os.path.join(folder, asked["sha256"] + ".pyz")
    private(root, folder)
    if not (os.path.isfile(path) and digest(path) == asked["sha256"]):
        say(have=False)
        part = "{}.{}.part".format(path, os.urandom(8).hex())
        try:
            receive(part, asked["size"])
            if digest(part) != asked["sha256"]:
                return say(error="The agent arrived damaged. Try again.")
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
    os.environ["CUTBACK_HOLDER"] = asked["holder"]
    python = os.path.expanduser(asked["python"]) or sys.executable or "python3"
    python, named = shutil.which(python), python
    if not python:
        found = "Cannot start {}: it is no program there. Give the path of a Python 3.8 or newer."
        return say(error=found.format(named))
    say(have=True)
    try:
        os.execv(python, [python, path, "--root", root])
    except OSError as failure:
        sys.exit("Cannot start {}: {}.".format(python, failure.strerror))

root = ""
try:
    main()
except OSError as failure:
    say(error="Cannot keep the agent in {}: {}. Free space there, or give the target another folder.".format(
        failure.filename or root, failure.strerror))
"""
