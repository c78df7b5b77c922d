"""How busy the machine is while something is timed: bounds in real time are held to what it could do at that moment."""

import threading
import time

_PAUSE = 0.01
_WORK = range(2_000)


class Busyness:
    """A thread that sleeps a moment and computes a little, over and over, beside the block that it is entered for.

    ``lost`` is the time that this took it longer than on an idle machine, in seconds: what a thread under test that
    sleeps and computes lost as well. ``worst`` is the most that one round lost.
    """

    def __init__(self):
        self.lost = 0.0
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _measure(self):
        while not self._over.is_set():
            began = time.monotonic()
            self._over.wait(_PAUSE)
            sum(_WORK)
            late = max(0.0, time.monotonic() - began - _PAUSE - 0.001)
            self.lost += late
            self.worst = max(self.worst, late)


class Timed:
    """Times a block; ``seconds`` is what it took."""

    def __enter__(self):
        self._busyness = Busyness().__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self._began
        self._busyness.__exit__()

    def within(self, bound):
        """Whether it took no longer than so many seconds, and thrice what another thread lost meanwhile."""
        return self.seconds <= bound + 3 * self._busyness.lost
