"""What counts as an emulator's fault: a console's words, and silence after them."""

from lab.faults import SILENCE, Watch, crashed

# What one said that had stopped, before anything else; and the same each 63 seconds, until it was ended.
LOST = b"""[   29.970176] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   29.972092] rcu: \t(detected by 1, t=5254 jiffies, g=1917, q=324 ncpus=2)
[   29.972245] rcu: All QSes seen, last rcu_preempt kthread activity 5254 (4294899741-4294894487)
[   29.972519] rcu: rcu_preempt kthread timer wakeup didn't happen for 5253 jiffies! g1917 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x200
[   29.972722] rcu: \tPossible timer handling issue on cpu=0 timer-softirq=818
[   29.972847] rcu: rcu_preempt kthread starved for 5254 jiffies! g1917 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x200 ->cpu=0
[   29.972995] rcu: \tUnless rcu_preempt kthread gets sufficient CPU time, OOM is now expected behavior.
[   29.973117] rcu: RCU grace-period kthread stack dump:
[   29.975042] rcu: Stack dump where RCU GP kthread last ran:
"""
LOCKUP = b"[  61.9] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python3:312]\n"


def watched(tmp_path):
    """Return a log, a list with the time in it, and the watch that goes by both."""
    log, now = tmp_path / "boot.log", [100.0]
    log.write_bytes(b"[   1.5] booted\n")
    return log, now, Watch(log, lambda: now[0])


def append(log, data):
    with log.open("ab") as file:
        file.write(data)


def test_silence_alone_is_no_sign(tmp_path):
    _, now, watch = watched(tmp_path)
    assert not watch.stuck()
    now[0] += 10 * SILENCE
    assert not watch.stuck()


def test_a_lost_timer_and_silence_are(tmp_path):
    log, now, watch = watched(tmp_path)
    assert not watch.stuck()
    append(log, LOST)
    assert not watch.stuck(), "it may go on"
    now[0] += SILENCE - 1
    assert not watch.stuck()
    append(log, LOST)  # the kernel says it again each minute: counted from the first
    now[0] += 1
    assert watch.stuck()


def test_a_job_that_goes_on_is_not_ended_however_silent_it_is_later(tmp_path):
    log, now, watch = watched(tmp_path)
    append(log, LOST)
    watch.heard()
    assert not watch.stuck()
    now[0] += 10 * SILENCE
    assert not watch.stuck()
    append(log, LOST)
    assert not watch.stuck()
    now[0] += SILENCE
    assert watch.stuck(), "it happened again"


def test_a_line_that_the_console_has_said_half_is_read_whole(tmp_path):
    log, now, watch = watched(tmp_path)
    middle = LOST.index(b"wakeup")
    for data in (LOST[:middle], LOST[middle : middle + 20], LOST[middle + 20 :]):
        append(log, data)
        assert not watch.stuck()
    now[0] += SILENCE
    assert watch.stuck()


def test_a_soft_lockup_is_none(tmp_path):
    log, now, watch = watched(tmp_path)
    append(log, LOCKUP)
    assert not watch.stuck()
    now[0] += 10 * SILENCE
    assert not watch.stuck()


def test_an_int3_is_one_where_the_kernel_panicked_of_it(tmp_path):
    log = tmp_path / "boot.log"
    assert not crashed(log), "there may be none"
    log.write_bytes(b"Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\nRIP: 0010:kfree+0xa0/0x350\n")
    assert not crashed(log)
    append(log, b"Kernel panic - not syncing: Fatal exception in interrupt\n")
    assert crashed(log)
    log.write_bytes(b"Kernel panic - not syncing: sysrq triggered crash\n")
    assert not crashed(log)
