"""Starts `crm-mcp` in a process that has it loaded (`warm.py`), and ends as that one ends: `warm_start.py PLACE ...`.

It is run without any library, because it is run often.
"""

import marshal
import os
import signal
import socket
import sys

place, *arguments = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as loaded:
    loaded.connect(place)
    text = marshal.dumps((arguments, dict(os.environ), os.getcwd()))  # noqa: PTH109 - pathlib takes longer to load than this
    socket.send_fds(loaded, [len(text).to_bytes(8)], [0, 1, 2])
    loaded.sendall(text)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: loaded.sendall(bytes([got])))
    status = int.from_bytes(loaded.recv(2))
if status > 256:  # it was ended by a signal
    number = 512 - status
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
sys.exit(status)
