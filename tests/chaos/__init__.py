"""
Nothing lost, nothing twice: proved by killing the bot everywhere.

::

    python -m tests.chaos --quick            every 60th kill point, some minutes: kill point x fault x strategy
    python -m tests.chaos                    every kill point with every fault: hours
    python -m tests.chaos --part 3/7         a seventh of that, for a run that may be interrupted; 1/7 to 7/7 are all
    python -m tests.chaos --strategy SWING --fault reply_lost --kill 117        one cell again, with its log
    python -m tests.chaos --invent 200       stories that nobody wrote down
    python -m tests.chaos --sabotage write_after_send --every 7                 must turn red

The real engine, strategies, desk, database and Kraken adapter run against the fake Kraken on a
clock that nobody waits for. Every side effect has a number (effects.py); a story (story.py) is
told for every number, and there the process dies. What must hold stands in invariants.py. All
deaths of one story are told by forks of one process that lives (family.py), which needs POSIX.
"""
