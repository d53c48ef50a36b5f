"""A series of shots: start the bot, shoot it at a chosen or a random moment, start it again, and count."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from tests.sigkill.ground import ANSWERED, LOST, TAKEN, USERREF, Aim, Ground
from tests.sigkill.promises import broken_promises, is_settled

LIFE = 6.0  # seconds to wait for a moment that does not come
SETTLING = 60.0
CHECK_EVERY = 12


def random_aim(chance: random.Random) -> Aim | None:
    """None: at a random moment."""
    delay = chance.choice((0.0, chance.uniform(0, 0.003), chance.uniform(0, 0.03)))
    moment = chance.choice((LOST, TAKEN, ANSWERED))
    match chance.choices(("AddOrder", "fill", "CancelOrder", "question", "any"), (8, 5, 2, 3, 4))[0]:
        case "AddOrder":
            return Aim("AddOrder", moment, chance.randint(1, 7), delay)
        case "fill":
            return Aim("fill", ANSWERED, chance.randint(1, 4), delay)
        case "CancelOrder":
            return Aim("CancelOrder", moment, chance.randint(1, 3), delay)
        case "question":
            method = chance.choice(("OpenOrders", "ClosedOrders", "QueryOrders", "QueryTrades", "BalanceEx", "Time"))
            return Aim(method, moment, 1, delay)
        case _:
            return None


class Shooting:
    """``points`` shots on one ground; ``report`` tells what was hit, ``broken`` what did not hold."""

    def __init__(self, ground: Ground, seed: int = 1) -> None:
        self.ground = ground
        self.chance = random.Random(seed)
        self.hit: Counter[str] = Counter()
        self.broken: list[str] = []
        self.checks = 0

    def run(self, points: int, check_every: int = CHECK_EVERY) -> None:
        """Stops at the first broken promise."""
        ground = self.ground
        ground.market_moves.set()
        while sum(self.hit.values()) < points and not self.broken:
            self._one_life()
            if sum(self.hit.values()) % check_every == 0:
                self.check()
        self.check()

    def _one_life(self) -> None:
        ground = self.ground
        ground.aim = aim = random_aim(self.chance)
        if self.chance.random() < 0.15:
            kind = self.chance.choice(("drop_reply", "drop_request", "http", "delay_reply"))
            ground.fake.faults.add("AddOrder", kind, nth=self.chance.randint(1, 4), seconds=0.5)
        ground.start()
        if aim is None:
            ground.wait_until(lambda: not ground.is_alive(), self.chance.uniform(0.3, 3.0))
        else:
            ground.wait_until(lambda: aim.hit.is_set() or not ground.is_alive(), LIFE)
        was_hit = aim is not None and aim.hit.is_set()
        ended_by_itself = not ground.is_alive() and not was_hit
        ground.aim = None
        ground.kill()
        if ended_by_itself:
            self.broken.append(f"the bot ended by itself:\n{ground.log[-3000:]}")
        self.hit[str(aim) if was_hit else "a random moment"] += 1
        ground.fake.faults.clear()
        time.sleep(self.chance.choice((0, 0, self.chance.uniform(0, 0.4))))  # the market goes on without the bot

    def check(self) -> None:
        """Let the bot come to rest on a still market, and look."""
        ground = self.ground
        ground.market_moves.clear()
        ground.start()
        self.checks += 1
        settled = ground.wait_until(lambda: is_settled(ground.fake, ground.database, USERREF), SETTLING)
        # An order may be about to be placed when the books agree: look again after a moment.
        time.sleep(1.5)
        settled = settled and ground.wait_until(lambda: is_settled(ground.fake, ground.database, USERREF), SETTLING)
        self.broken += ground.broken
        if not settled:
            self.broken.append(f"the bot does not come to rest:\n{ground.log[-3000:]}")
        self.broken += broken_promises(ground.fake, ground.database, USERREF, ground.strategy)
        self.broken += [f"foreign order {o.txid} is {o.status}" for o in ground.foreign if o.status != "open"]
        ground.kill()
        ground.market_moves.set()

    def report(self) -> str:
        ours = [o for o in self.ground.fake.orders.values() if o.userref == USERREF]
        filled = Counter(o.side for o in ours if o.status == "closed")
        lines = [f"{self.ground.strategy}: {sum(self.hit.values())} times SIGKILL, {self.checks} complete checks"]
        lines += [f"  {count:4}  {what}" for what, count in sorted(self.hit.items())]
        lines += [
            f"  orders taken {len(ours)}, filled buys {filled['buy']}, filled sells {filled['sell']}, "
            f"partial fills {self.ground.counts['partial fills']}",
            f"  broken promises: {len(self.broken)}",
        ]
        return "\n".join(lines + self.broken)


def shoot(directory: Path, strategy: str, points: int, seed: int, check_every: int = CHECK_EVERY) -> Shooting:
    """A whole series in ``directory``."""
    with Ground(directory, strategy, seed=seed) as ground:
        shooting = Shooting(ground, seed)
        shooting.run(points, check_every)
        return shooting
