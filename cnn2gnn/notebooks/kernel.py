"""A kernel of this Python, whatever kernelspec called `python3` lies first on Jupyter's path."""

from __future__ import annotations

from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import Type, default

LOOK_AGAIN = 1.0  # seconds


class OwnKernelSpecs(KernelSpecManager):
    """Looks in no folder for kernelspecs: what is left is the one of the running interpreter."""

    @default("kernel_dirs")
    def _kernel_dirs_default(self) -> list[str]:
        return []


class AttentiveChannel(AsyncZMQSocketChannel):
    """Misses no message that comes while it sends one.

    A socket of ZeroMQ tells of new messages once, at the edge, and a send takes that notice as
    well. nbclient answers `Output` widgets on the very channel on which it waits for the end of the
    cell: where both fell together it waited for ever, in two of three kernels that started beside
    one another. Looking again, every second, finds what has come.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        """Return the next message; wait for it for `timeout` seconds, None: as long as it takes.

        Raises:
            queue.Empty: none came within `timeout`.
        """
        while timeout is None:
            try:
                return await super().get_msg(LOOK_AGAIN)
            except Empty:
                continue
        return await super().get_msg(timeout)


class AttentiveClient(AsyncKernelClient):
    """Asks its kernel over an attentive channel."""

    shell_channel_class = Type(AttentiveChannel)


class OwnKernelManager(AsyncKernelManager):
    """Starts the running interpreter."""

    client_factory = Type(AttentiveClient)

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return OwnKernelSpecs(parent=self)
