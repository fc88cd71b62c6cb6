"""Starting the gateway: the file of endpoints, where it listens, and what it says of that."""

import gc
import logging
import os
import sys
from collections.abc import Callable

from metainf.api.choosing import load_predictor
from metainf.gateway.app import create_app
from metainf.gateway.settings import GatewaySettings
from metainf.gateway.words import Endpoint
from metainf.measure.drive import allow_connections
from metainf.service.access import rate_of
from metainf.service.app import SWITCH_S
from metainf.service.observing import log_in_json
from metainf.service.start import MOST_CONNECTIONS, Listening, bind, guarded, run, told_address

GARBAGE = 20_000
"""Objects made before the youngest are looked through: requests leave few cycles."""


def listen(
    endpoints: tuple[Endpoint, ...],
    settings: GatewaySettings,
    where: Listening,
    grace_s: int,
    tell: Callable[[str], None],
) -> None:
    """Route requests until told to stop; requests that run then have `grace_s` seconds to end.

    Raises BadInput before it listens where it may not or cannot.
    """
    if settings.rate is not None:
        rate_of(settings.rate)
    settings = settings.model_copy(update={"public": where.public})
    name, locked, _ = guarded(settings.store, where)
    load_predictor(settings.predictor_path)
    bound = bind(where)
    names = ", ".join(each.name for each in endpoints)
    tell(f"metainf gateway listens at {told_address(where, bound, locked)} before {names}; records in {name}")
    allow_connections(4 * MOST_CONNECTIONS)
    sys.setswitchinterval(SWITCH_S)
    log_in_json(os.environ.get("METAINF_LOG", "INFO"))
    logging.getLogger("aiohttp").setLevel(logging.ERROR)
    gc.freeze()  # what was loaded stays: no collection looks at it again
    gc.set_threshold(GARBAGE)
    run(create_app(endpoints, settings), where, bound, grace_s)
