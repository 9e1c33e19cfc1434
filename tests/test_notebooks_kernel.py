"""The channel on which a notebook's kernel answers."""

import asyncio
from queue import Empty

import pytest
import zmq
import zmq.asyncio
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.session import Session

from cnn2gnn.notebooks.kernel import AttentiveChannel


class Deaf(zmq.asyncio.Socket):
    """A socket whose notice of a message is lost, as a send beside it may take it.

    It is not woken; only when its time is over does it see what has come.
    """

    async def poll(self, timeout: int | None = None, flags: int = zmq.POLLIN) -> int:
        await (asyncio.Event().wait() if timeout is None else asyncio.sleep(timeout / 1000))
        return zmq.Socket.shadow(self.underlying).poll(0, flags)


@pytest.fixture
def sockets():
    with zmq.Context() as there, zmq.asyncio.Context() as here:
        kernel, client = there.socket(zmq.DEALER), Deaf(here, zmq.DEALER)
        client.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        yield kernel, client
        kernel.close(linger=0)
        client.close(linger=0)


def first_message(kind, sockets, timeout=None):
    kernel, client = sockets
    session = Session(key=b"")
    session.send(kernel, "execute_reply", content={"status": "ok"})

    async def wait():
        return await asyncio.wait_for(kind(client, session).get_msg(timeout), 8)

    return asyncio.run(wait())


def test_a_message_is_found_although_its_notice_was_lost(sockets):
    assert first_message(AttentiveChannel, sockets)["msg_type"] == "execute_reply"


def test_the_plain_channel_would_wait_for_ever(sockets):
    with pytest.raises(asyncio.TimeoutError):
        first_message(AsyncZMQSocketChannel, sockets)


def test_a_timeout_is_kept(sockets):
    async def wait():
        await AttentiveChannel(sockets[1], Session(key=b"")).get_msg(timeout=0.1)

    with pytest.raises(Empty):
        asyncio.run(asyncio.wait_for(wait(), 5))
