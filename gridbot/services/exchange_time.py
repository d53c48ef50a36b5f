"""The exchange's clock: ours may be wrong by hours, and jump when the Pi asks its time server."""

from gridbot.exceptions import TemporaryFailure
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService

SLOW = 5.0  # seconds; a slower answer is too inexact: deadlines, 10 s ahead, are computed from this time
LEAP = 60.0  # seconds; a larger jump of the exchange's time is accepted only if a second reading agrees


class ExchangeTime:
    """Reckoned with our monotonic clock from the last answer; from our own clock before the first."""

    def __init__(self, rest_api: IExchangeRESTService, clock: IClock) -> None:
        self._rest = rest_api
        self._clock = clock
        self._offset = clock.time() - clock.monotonic()  # the exchange's unix time minus our monotonic clock

    def read(self) -> None:
        """Ask the exchange for its time; one answer alone may be wrong, too. Raises TemporaryFailure."""
        offset = self._offset_reported()
        leap = offset - self._offset
        if abs(leap) > LEAP and abs(self._offset_reported() - offset) > SLOW:
            raise TemporaryFailure(f"the exchange's time leapt by {leap:.0f} s, and a second answer disagreed")
        self._offset = offset

    def _offset_reported(self) -> float:
        """
        The exchange's time minus our monotonic clock, asked anew. An answer that agrees with the known offset keeps it;
        one that does not, and took more than 5 s, is too inexact. Raises TemporaryFailure.
        """
        asked = self._clock.monotonic()
        server = self._rest.get_server_time()
        earliest, latest = server - self._clock.monotonic(), server - asked
        if earliest <= self._offset <= latest:
            return self._offset
        if latest - earliest > SLOW:
            raise TemporaryFailure(f"the exchange took {latest - earliest:.0f} s to tell the time")
        return earliest

    def now(self) -> float:
        """Unix seconds on the exchange's clock."""
        return self._clock.monotonic() + self._offset
