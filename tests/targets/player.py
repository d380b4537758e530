"""What a hostile device says, word for word: `python player.py PLAN`, in place of a device's agent.

PLAN is JSON: verb -> steps, with "start" for what comes before the agent. A step is [what, argument]: `say` a text, in
which $ID is the request's number; send the `file` at a path; say a text `forever`; `complain` a text on standard error;
`close` the output; `hang`; `exit` with a status. {"in turn": [steps, ...]} are for one request after the other.
"""

import json
import os
import sys
import time


def write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def play(steps: list[list[str]], number: str) -> None:
    for what, argument in steps:
        if what == "say":
            write(argument.replace("$ID", number).encode())
        elif what == "file":
            with open(argument, "rb") as file:  # noqa: PTH123 -- as little as a device needs
                write(file.read())
        elif what == "forever":
            data = argument.replace("$ID", number).encode()
            while True:
                write(data)
        elif what == "complain":
            os.write(2, argument.encode())
        elif what == "close":
            os.close(1)
        elif what == "hang":
            time.sleep(600)
        elif what == "exit":
            sys.exit(int(argument))


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        plan = json.load(file)
    played: dict[str, int] = {}
    sys.stdin.readline()
    play(plan["start"], "")
    for line in sys.stdin:
        if line.strip():
            request = json.loads(line)
            steps = plan[request["verb"]]
            if "in turn" in steps:
                played[request["verb"]] = played.get(request["verb"], -1) + 1
                steps = steps["in turn"][played[request["verb"]]]
            play(steps, str(request["id"]))


try:
    main()
except BrokenPipeError:
    os._exit(1)
