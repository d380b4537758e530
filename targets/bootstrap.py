"""The program that turns any Python on a device into our agent (host side).

It is one constant text, passed to `python3 -c`: no name and no path of anybody's is ever part of a command line over
there. It reads one line of JSON, `{"root", "python", "holder", "sha256", "size"}`, answers with one, takes the agent's
archive where the device has none of that hash yet, and becomes the agent, which goes on with the same input and output.

    root     folder of our own on the device; "" is its user's cache
    python   the interpreter that has the runtime; "" is the one that runs this
    holder   who the device is busy for, as others are told
"""

# Understood by every Python 3, so that one that is too old says so instead of showing a syntax error. Input is read
# without a buffer: what follows belongs to the agent.
BOOTSTRAP = r"""
import hashlib, json, os, shutil, stat, sys

def line():
    got = b""
    while not got.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        got += byte
    return json.loads(got.decode())

def say(**answer):
    os.write(1, (json.dumps(answer) + "\n").encode())

def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()

def home(path):
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise OSError(2, "There is no home folder for it", path)
    return found

def ours(folder):
    os.makedirs(folder, 0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OSError(1, "Others may write to it, or it is no folder of yours. Name another, or chmod 700", folder)

def main():
    asked = line()
    if sys.version_info < (3, 8):
        return say(error="Python 3.8 or newer is needed there; python3 is {}.{}".format(*sys.version_info))
    os.umask(0o077)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    root = os.path.realpath(home(asked["root"] or os.path.join(cache, "cutback")))
    folder = os.path.join(root, "agents")
    path = os.path.join(folder, asked["sha256"] + ".pyz")
    python = shutil.which(home(asked["python"] or sys.executable or "python3"))
    if not python:
        return say(error="There is no {} there that can be run.".format(asked["python"] or "python3"))
    for each in (root, folder):
        ours(each)
    if not (os.path.isfile(path) and digest(path) == asked["sha256"]):
        say(have=False)
        part = "{}.{}.part".format(path, os.urandom(8).hex())
        try:
            with open(part, "xb") as file:
                left = asked["size"]
                while left:
                    block = os.read(0, min(left, 1 << 16))
                    if not block:
                        sys.exit(0)
                    left -= len(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if digest(part) != asked["sha256"]:
                return say(error="The agent arrived damaged. Try again.")
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
    os.environ["CUTBACK_HOLDER"] = asked["holder"]
    say(have=True)
    try:
        os.execv(python, [python, path, "--root", root])
    except OSError as failure:
        say(error="Cannot start {}: {}".format(python, failure.strerror))

try:
    main()
except OSError as failure:
    say(error="{}: {}".format(failure.filename or "Cannot write", failure.strerror))
"""
