"""The consumer of the guide, as it stands there, spoken to as a server does: Channels' own client needs Daphne."""

import json
from types import SimpleNamespace

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import override_settings

from entitlement_gate.api import default_gate
from entitlement_gate.testing import override_entitlements
from tests.customers import FREE, PRO, SETTINGS
from tests.docs.pages import DOCS, blocks_of

pytestmark = pytest.mark.django_db  # Channels looks after the connection that a test before this one may have left
PATIENCE = 30  # seconds, of a busy machine


@pytest.fixture(autouse=True)
def _settings():
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "DEADLINE": 30}):
        yield


@pytest.fixture(scope="module")
def consumer():
    namespace = {}
    for block in blocks_of(DOCS / "how-to" / "channels.md"):
        exec(block.text, namespace)
    return namespace["ReportConsumer"]


class Socket(ApplicationCommunicator):
    """A WebSocket of a customer."""

    def __init__(self, consumer, customer):
        user = SimpleNamespace(zenskar_customer_id=customer)
        super().__init__(consumer.as_asgi(), {"type": "websocket", "path": "/reports/", "headers": [], "user": user})

    async def connect(self):
        """Return what the handshake is answered."""
        await self.send_input({"type": "websocket.connect"})
        return await self.receive_output(timeout=PATIENCE)

    async def ask(self, **content):
        """Send a message and return the answer."""
        await self.send_input({"type": "websocket.receive", "text": json.dumps(content)})
        return json.loads((await self.receive_output(timeout=PATIENCE))["text"])

    async def leave(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(timeout=PATIENCE)


def left():
    return default_gate().check(PRO, "API Calls").remaining


async def test_who_may_connects_and_each_message_counts(consumer):
    socket = Socket(consumer, PRO)
    assert (await socket.connect())["type"] == "websocket.accept"
    before = left()
    assert await socket.ask(month="May") == {"report": "of May"}
    assert left() == before - 1
    await socket.leave()


async def test_a_message_beyond_the_balance_is_refused(consumer):
    with override_entitlements({"reports": True, "API Calls": 0}):
        socket = Socket(consumer, PRO)
        await socket.connect()
        assert await socket.ask(month="May") == {"code": "insufficient_quantity"}
        await socket.leave()


@pytest.mark.parametrize(("said", "code"), [({"reports": False}, 1008), ({"reports": "unavailable"}, 1013)])
async def test_who_may_not_is_refused_at_the_handshake(consumer, said, code):
    with override_entitlements(said):
        answer = await Socket(consumer, FREE).connect()
    assert (answer["type"], answer["code"]) == ("websocket.close", code)


async def test_nobody_is_refused(consumer):
    assert (await Socket(consumer, None).connect())["code"] == 1008


async def test_a_message_that_fails_gives_back(consumer):
    socket = Socket(consumer, PRO)
    await socket.connect()
    before = left()
    await socket.send_input({"type": "websocket.receive", "text": "{}"})
    with pytest.raises(KeyError):
        await socket.wait(timeout=PATIENCE)
    assert left() == before
