import queue
import signal
import threading

import pytest

from entitlement_gate.resilience import worker_pool as module
from entitlement_gate.resilience.worker_pool import WorkerPool
from tests.engine.fakes import eventually, held_elsewhere
from tests.lab.striking import strike_newborns


@pytest.fixture
def make(clock):
    made, before = [], set(threading.enumerate())

    def make(most=2, patience=30):
        made.append(WorkerPool(most, clock, patience))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
    for thread in threading.enumerate():  # what one says as it ends is this test's, and no noise of the next
        if thread not in before and thread.name.startswith("entitlement_gate-") and thread.is_alive():
            thread.join(10)


class Held:
    """Work that waits to be let go."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.thread = None

    def __call__(self):
        self.thread = threading.current_thread()
        self.has_begun.set()
        assert self.may_end.wait(30)


def begun(pool, count):
    works = [Held() for _ in range(count)]
    for work in works:
        assert pool.submit(work)
        assert work.has_begun.wait(60)
    return works


def end(works):
    for work in works:
        work.may_end.set()
        assert work.has_begun.wait(60)
        work.thread.join(0.05)


def test_there_is_no_thread_before_the_first_work(make):
    before = set(threading.enumerate())
    make()
    assert set(threading.enumerate()) <= before


def test_threads_are_daemons_and_bounded(make):
    pool = make(most=2)
    works, later = begun(pool, 2), Held()
    assert pool.submit(later)
    assert not later.has_begun.wait(0.05)
    assert all(work.thread.daemon for work in works)
    end([works[0]])
    assert later.has_begun.wait(60)
    end([works[1], later])


def test_work_never_waits_behind_other_work_while_a_thread_may_be_hired(make):
    for _ in range(50):
        pool = make(most=2)
        quick = threading.Event()
        pool.submit(quick.set)
        held = Held()
        pool.submit(held)
        done = threading.Event()
        pool.submit(done.set)
        assert done.wait(60)
        end([held])
        pool.close()


def test_an_idle_thread_ends_and_the_next_work_finds_another(make, monkeypatch):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)
    pool = make()
    works = begun(pool, 1)
    end(works)
    works[0].thread.join(60)
    assert not works[0].thread.is_alive()
    end(begun(pool, 1))


def test_work_that_comes_as_a_thread_gives_up_waiting_is_done_by_it(make, monkeypatch):
    pool = make()
    done = threading.Event()

    class Late:
        """A queue whose first wait ends just as the work arrives."""

        def get(self, timeout):
            monkeypatch.setattr(pool, "_wakeups", wakeups)
            pool._waiting["late"] = done.set
            raise module.queue.Empty

    wakeups = pool._wakeups
    monkeypatch.setattr(pool, "_wakeups", Late())
    (thread,) = added = (pool._thread(1),)
    pool._threads.add(thread)
    assert pool._start(added)
    assert done.wait(60)


def test_a_closed_pool_refuses_work_and_ends_its_threads(make):
    pool = make()
    works = begun(pool, 1)
    pool.close()
    pool.close()
    assert not pool.submit(lambda: None)
    end(works)
    works[0].thread.join(60)
    assert not works[0].thread.is_alive()


def test_a_closed_pool_stays_closed_in_a_forked_child(make):
    pool = make()
    pool.close()
    pool.remake()
    assert not pool.submit(lambda: None)


def test_a_system_without_threads_is_an_answer_and_no_error(make, monkeypatch):
    pool = make()
    works = begun(pool, 1)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    later = Held()
    assert pool.submit(later)  # the thread there is will do it
    end(works)
    assert later.has_begun.wait(60)
    end([later])
    assert not make().submit(later)


def test_threads_that_hang_are_replaced_once_others_wait_and_patience_is_over(make, clock):
    pool = make(most=2, patience=30)
    hung = begun(pool, 2)
    waiting = Held()
    clock.advance(30)
    pool.submit(waiting)
    assert not waiting.has_begun.wait(0.05)
    clock.advance(1)
    pool.submit(lambda: None)
    assert waiting.has_begun.wait(60)
    end([waiting, *hung])


def test_patience_doubles_with_every_pool_of_threads_that_hangs(make, clock):
    pool = make(most=1, patience=30)
    hung = begun(pool, 1)
    clock.advance(31)
    hung += begun(pool, 1)
    clock.advance(31)
    third = Held()
    pool.submit(third)
    assert not third.has_begun.wait(0.05)
    clock.advance(30)
    pool.submit(lambda: None)
    assert third.has_begun.wait(60)
    end([*hung, third])


def test_a_thread_that_was_written_off_ends_when_it_comes_back(make, clock):
    pool = make(most=1, patience=30)
    hung = begun(pool, 1)
    clock.advance(31)
    other = begun(pool, 1)
    assert len(pool._written_off) == 1
    end(hung)
    hung[0].thread.join(60)
    assert not hung[0].thread.is_alive()
    eventually(lambda: not pool._written_off)
    end(other)
    end(begun(pool, 1))


def test_a_lock_held_at_the_fork_does_not_matter_in_the_child(make):
    pool = make()
    with held_elsewhere(pool._lock):
        pool.remake()
        end(begun(pool, 1))


def test_many_threads_submit_and_all_work_is_done(make):
    pool, done = make(most=4), []
    submitters = [
        threading.Thread(target=lambda: [pool.submit(lambda: done.append(1)) for _ in range(200)]) for _ in range(8)
    ]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join()
    eventually(lambda: len(done) == 1_600)
    eventually(lambda: not pool._busy)
    assert len(pool._threads) <= 4


class Strike(BaseException):
    pass


def strike(*_, **__):
    raise Strike


@pytest.mark.parametrize("error", [ValueError("a key"), SystemExit(1), KeyboardInterrupt(), Strike()])
def test_whatever_work_raises_the_thread_goes_on_to_the_next(make, caplog, error):
    pool = make(most=1)

    def fail():
        threads.append(threading.current_thread())
        raise error

    threads, done = [], threading.Event()
    pool.submit(fail)
    assert pool.submit(lambda: (threads.append(threading.current_thread()), done.set()))
    assert done.wait(60)
    assert len(set(threads)) == 1
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [type(error).__name__]
    assert caplog.records[0].exc_info is None


def test_who_is_struck_as_a_thread_starts_leaves_one_that_is_counted(make, monkeypatch):
    start = module.start_thread

    def struck(thread):
        start(thread)
        raise Strike

    pool, done = make(most=1), threading.Semaphore(0)
    monkeypatch.setattr(module, "start_thread", struck)
    with pytest.raises(Strike):
        pool.submit(done.release)
    monkeypatch.undo()
    assert pool.submit(done.release)
    assert done.acquire(timeout=60)
    assert done.acquire(timeout=60)
    assert len(pool._threads) == 1


def test_who_is_struck_before_a_thread_starts_leaves_none_that_is_counted(make, monkeypatch):
    pool = make(most=1)
    monkeypatch.setattr(module, "start_thread", strike)
    with pytest.raises(Strike):
        pool.submit(lambda: None)
    monkeypatch.undo()
    end(begun(pool, 1))


def test_a_thread_that_nobody_counted_counts_itself(make):
    pool = make(most=1)
    thread = threading.Thread(target=pool._serve, daemon=True)
    thread.start()
    eventually(lambda: pool._threads == {thread})
    works = begun(pool, 1)
    assert works[0].thread is thread
    extra = threading.Thread(target=pool._serve, daemon=True)
    extra.start()
    extra.join(60)
    assert not extra.is_alive()  # its place was taken meanwhile
    end(works)


def test_work_is_done_though_the_thread_that_was_to_do_it_is_struck_as_it_begins(make, monkeypatch):
    strike_newborns(monkeypatch, "entitlement_gate-")
    end(begun(make(), 2))


def test_who_submits_waits_for_no_thread_where_all_are_struck_and_the_next_work_finds_one(make, monkeypatch):
    pool, done = make(most=1), threading.Event()
    strike_newborns(monkeypatch, "entitlement_gate-", times=2)
    assert pool.submit(done.set)
    end(begun(pool, 1))
    assert done.wait(60)


def test_many_who_submit_at_once_start_no_more_threads_than_there_may_be(make, monkeypatch):
    pool, works, together = make(most=4), [Held() for _ in range(20)], threading.Barrier(20)
    make_thread, made = pool._thread, []  # of this pool: one of an earlier test may start as late as now

    def counted(name):
        made.append(make_thread(name))
        return made[-1]

    submitters = [threading.Thread(target=lambda work=work: (together.wait(), pool.submit(work))) for work in works]
    monkeypatch.setattr(module, "_LONGEST_START", 60.0)  # a busy machine is to be no reason
    monkeypatch.setattr(pool, "_thread", counted)
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join()
    for work in works:
        work.may_end.set()
    end(works)
    assert len(made) == 4


def test_work_that_waits_is_queued_once_under_its_name(make):
    pool = make(most=1)
    works, done = begun(pool, 1), []
    for _ in range(3):
        assert pool.submit(lambda: done.append(1), name="one")
    assert pool.has("one")
    end(works)
    eventually(lambda: not pool.has("one"))
    assert done == [1]


def test_work_that_was_taken_and_not_begun_is_put_back(make, monkeypatch):
    pool, done = make(most=1), threading.Event()
    take = pool._take

    def struck(thread):
        monkeypatch.setattr(pool, "_take", take)
        assert take(thread)
        raise Strike

    monkeypatch.setattr(pool, "_take", struck)
    pool.submit(done.set)
    assert done.wait(60)


def test_a_thread_that_dies_leaves_what_waits_to_another(make, monkeypatch):
    pool, done, dying = make(most=1), threading.Event(), []
    run_next = pool._run_next

    class Answer:
        """Whether to go on, which strikes whoever asks."""

        def __bool__(self):
            raise Strike

    def die(thread):
        monkeypatch.setattr(pool, "_run_next", run_next)
        assert pool._take(thread)
        dying.append(thread)
        return Answer()

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(pool, "_run_next", die)
    pool.submit(done.set)
    assert done.wait(60)
    dying[0].join(60)  # or its death is told of in the test that follows


def test_a_thread_that_died_without_a_word_is_no_longer_counted(make):
    pool = make(most=1)
    dead = threading.Thread(target=lambda: None)
    pool._threads.add(dead)
    pool._busy[dead] = module._Task("lost", [lambda: None], 0.0)
    assert pool.has("lost")  # put back, for the next
    end(begun(pool, 1))
    eventually(lambda: not pool.has("lost"))


def test_a_clock_that_went_back_keeps_nobody_waiting_for_a_thread_that_hangs(make, clock):
    pool = make(most=1, patience=30)
    hung = begun(pool, 1)
    clock.advance(-1_000)
    waiting = Held()
    pool.submit(waiting)
    assert waiting.has_begun.wait(60)
    end([waiting, *hung])


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system masks no signals")
def test_signals_to_the_process_are_left_to_its_own_threads(make):
    masks = queue.SimpleQueue()

    assert make().submit(lambda: masks.put(signal.pthread_sigmask(signal.SIG_BLOCK, [])))

    asked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    assert masks.get(timeout=30) >= asked
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & asked
