"""
What goes wrong while the story is told. Each fault strikes in some of its steps and is over at its end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tests.chaos.house import PAIR, House

Act = Callable[[House], object]


def _nothing(_house: House) -> None:
    """All is well."""


@dataclass(frozen=True)
class Fault:
    """
    begin    spoils what comes
    undo     takes back what does not end by itself, at the end of a step
    every    strikes in each so-manieth step
    seconds  how much longer a struck step lasts: some troubles take their time
    """

    begin: Act = _nothing
    undo: Act = _nothing
    every: int = 1
    seconds: float = 0.0

    def strikes(self, step: int) -> bool:
        return step % self.every == self.every - 1

    def arm(self, house: House, step: int) -> None:
        """Before a step."""
        if self.strikes(step):
            self.begin(house)

    def longer(self, step: int) -> float:
        return self.seconds if self.strikes(step) else 0.0

    def relieve(self, house: House) -> None:
        """After a step."""
        self.undo(house)

    def end(self, house: House) -> None:
        """Nothing goes wrong from now on."""
        self.undo(house)
        house.fake.faults.clear()
        house.fake.faults.token_refusals = house.fake.faults.connection_refusals = 0
        house.fake.rest_lag = 0.0
        house.disaster = None
        house.effects.disk_says = ""


def _call(method: str, kind: str, every: int = 1, longer: float = 0.0, **options: object) -> Fault:
    def begin(house: House) -> None:
        house.fake.faults.clear()
        house.fake.faults.add(method, kind, **options)  # type: ignore[arg-type]

    return Fault(begin, every=every, seconds=longer)


def _mode(status: str) -> Fault:
    """The whole market, for ten seconds in every fourth step."""

    def begin(house: House) -> None:
        house.fake.set_status(status)
        house.fake.at(house.now + 10, lambda: house.fake.set_status("online"))

    return Fault(begin, every=4, seconds=12)


def _crossing(house: House) -> None:
    """The price falls to the buy that is on its way; the exchange takes the order and cancels it."""

    def fall(params: dict[str, str]) -> bool:
        if params.get("type") == "buy":
            house.fake.last[PAIR] = Decimal(params["price"])
            house.fake.faults.clear()
        return False

    house.fake.faults.clear()
    house.fake.faults.add("AddOrder", "error", when=fall)


def _crossing_refused(house: House) -> None:
    house.fake.post_only_mode = "error"
    _crossing(house)


def _lag(seconds: float) -> Act:
    def act(house: House) -> None:
        house.fake.rest_lag = seconds

    return act


def _clock(error: float) -> Act:
    def act(house: House) -> None:
        house.clock_error = error

    return act


def _clock_steps(house: House) -> None:
    """An hour forward, two back, and so on."""
    house.clock_error = -house.clock_error or 3600.0


def _disk(words: str) -> Act:
    def act(house: House) -> None:
        house.effects.disk_says = words
        house.fake.at(house.now + 3, lambda: setattr(house.effects, "disk_says", ""))

    return act


def _gone(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def _garbage(path: Path) -> None:
    path.write_bytes(b"\0" * 5000)


def _lost(house: House) -> None:
    house.disaster = _gone


def _damaged(house: House) -> None:
    house.disaster = _garbage


def _restored(house: House) -> None:
    """
    At the next death the database becomes again what it is now. No hand does that in less than fifteen seconds,
    by which time an order that was on its way has arrived or was refused for its deadline.
    """
    house.mending = 15.0
    copy = house.path.read_bytes() if house.path.exists() else b""
    log = house.path.with_name(f"{house.path.name}-wal")
    written = log.read_bytes() if log.exists() else b""

    def restore(path: Path) -> None:
        _gone(path)
        if copy:
            path.write_bytes(copy)
            path.with_name(log.name).write_bytes(written)

    house.disaster = restore


def _refuse(house: House) -> None:
    house.fake.faults.refuse_token(2)
    house.fake.drop_sockets(private=True)


def _no_socket(house: House) -> None:
    house.fake.faults.refuse_connections(6)
    house.fake.drop_sockets()


def _slow_feed(house: House) -> None:
    house.fake.faults.executions_delay = 5.0


def _always(**settings: object) -> Fault:
    """Kraken behaves a little differently, as it is reported to do at times; for good."""

    def begin(house: House) -> None:
        for name, value in settings.items():
            setattr(house.fake, name, value)

    return Fault(begin)


def _ticker(when: str) -> Act:
    def act(house: House) -> None:
        house.ticker = when

    return act


def _messages(how: str, count: int, **options: bool) -> Fault:
    return Fault(lambda house: getattr(house.fake.faults, how)(count, **options), every=3, seconds=15)


ADD, CANCEL = "AddOrder", "CancelOrder"
UNKNOWN = 100.0  # an order that is not there is given up after about so long

FAULTS: dict[str, Fault] = {
    "none": Fault(),
    "reply_lost": _call(ADD, "drop_reply"),
    "reply_reset": _call(ADD, "drop_reply", reset=True, every=2),
    "request_lost": _call(ADD, "drop_request", every=3, longer=UNKNOWN),
    "request_refused": _call(ADD, "refused", times=9, every=2, longer=10),
    "reply_late": _call(ADD, "delay_reply", every=2, longer=20, seconds=15.0),
    "request_late": _call(ADD, "delay_request", every=3, longer=UNKNOWN, seconds=10.5),  # too late for its deadline
    "request_just_in_time": _call(ADD, "delay_request", every=3, longer=10, seconds=8.0),
    "taken_502": _call(ADD, "http", status=502, taken=True),
    "not_taken_504": _call(ADD, "http", status=504, every=3, longer=UNKNOWN),
    "taken_520": _call(ADD, "http", status=520, taken=True, every=2),
    "empty": _call(ADD, "empty", taken=True),
    "cut": _call(ADD, "cut", taken=True),
    "garbage": _call(ADD, "garbage", every=3, longer=UNKNOWN),
    "body_cut": _call(ADD, "cut_body", taken=True),
    "no_txid": _call(ADD, "no_txid"),
    "busy": _call(ADD, "error", error="EService:Busy", times=2, every=3, longer=30),
    "unavailable": _call(ADD, "error", error="EService:Unavailable", every=3, longer=30),
    "unavailable_taken": _call(ADD, "error", error="EService:Unavailable", taken=True),
    "rate_limit": _call(ADD, "error", error="EOrder:Rate limit exceeded", every=3, longer=20),
    "api_rate_limit": _call("*", "error", error="EAPI:Rate limit exceeded", every=3, longer=20),
    "lockout": _call("*", "error", error="EGeneral:Temporary lockout", every=6, longer=950),
    "invalid_nonce": _call("*", "error", error="EAPI:Invalid nonce", every=2),
    "orders_limit": _call(ADD, "error", error="EOrder:Orders limit exceeded", times=2, every=3, longer=90),
    "no_funds": _call(ADD, "error", error="EOrder:Insufficient funds", every=3, longer=30),
    "internal_error": _call(ADD, "error", error="EGeneral:Internal error", taken=True),
    "any_reply_lost": _call("*", "drop_reply", times=2),
    "any_502": _call("*", "http", status=502, times=3, taken=True),
    "cancel_lost": _call(CANCEL, "drop_reply", times=2),
    "cancel_never_sent": _call(CANCEL, "drop_request", times=4),
    "cancel_ignored": _call(CANCEL, "cancel_ignored", times=2, every=2, longer=10),
    "crossing": Fault(_crossing, every=2, seconds=3),
    "crossing_refused": Fault(_crossing_refused, every=2, seconds=3),
    "cancel_only": _mode("cancel_only"),
    "post_only": _mode("post_only"),
    "maintenance": _mode("maintenance"),
    "rest_behind": Fault(_lag(59.0)),
    "behind_reply_lost": Fault(lambda house: (_lag(59.0)(house), FAULTS["reply_lost"].begin(house))),
    "behind_any_502": Fault(lambda house: (_lag(59.0)(house), FAULTS["any_502"].begin(house))),
    "behind_and_cut_off": Fault(lambda house: (_lag(59.0)(house), house.fake.drop_sockets()), every=2),
    "socket_dropped": Fault(lambda house: house.fake.drop_sockets(), every=2, seconds=10),
    "private_dropped": Fault(lambda house: house.fake.drop_sockets(private=True)),
    "silent": Fault(lambda house: house.fake.silence(), every=3, seconds=20),
    "half_open": Fault(lambda house: house.fake.half_open(private=True), every=3, seconds=20),
    "gap": _messages("lose", 1),
    "unseen_gap": _messages("lose", 1, gap=False),
    "doubled": _messages("double", 4),
    "out_of_order": _messages("swap", 3),
    "token_refused": Fault(_refuse, every=3, seconds=30),
    "no_connection": Fault(_no_socket, every=3, seconds=40),
    "garbage_frames": Fault(lambda house: house.fake.send_garbage(), every=2),
    "slow_feed": Fault(_slow_feed),
    "sparse_messages": _always(optional_fields=False),
    "filled_told_apart": _always(separate_filled=True, optional_fields=False),
    "query_all_or_none": _always(query_unknown_error="EOrder:Invalid order"),
    "auto_earn": _always(auto_earn={"XXBT", "ZUSD"}),
    "ticker_before_fills": Fault(_ticker("before")),
    "fills_without_ticker": Fault(_ticker("never"), _ticker("after"), every=2),
    "starter_tier": Fault(lambda house: setattr(house.fake.limits, "tier", "starter")),
    "hour_ahead": Fault(_clock(3600.0)),
    "hour_behind": Fault(_clock(-3600.0)),
    "clock_steps": Fault(_clock_steps, every=2),
    "disk_full": Fault(_disk("database or disk is full"), every=4, seconds=70),
    "database_gone": Fault(_lost),
    "database_damaged": Fault(_damaged),
    "database_restored": Fault(_restored, every=4),
    "gone_and_behind": Fault(lambda house: (_lag(59.0)(house), _lost(house))),
    "gone_and_unanswered": Fault(lambda house: (_lost(house), FAULTS["request_just_in_time"].begin(house)), every=2),
    "locked": Fault(_disk("database is locked"), every=3, seconds=70),
}

# The bot forgets. What must hold then is less: what it cannot know, it cannot sell.
FORGETTING = frozenset(name for name in FAULTS if name.startswith(("database", "gone")))
