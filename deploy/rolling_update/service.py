"""A Service in front of pods: it distributes connections, not calls, as kube-proxy does."""

import asyncio
import threading
import time

# How long a deleted pod still gets new connections: until every proxy knows that it is leaving.
PROPAGATION = 3.0


class Service:
    """Listens on this machine, and passes each new connection to the next ready pod. A connection stays with its pod."""

    def __init__(self, ports):
        """`ports` are the names of ports of the pods' containers."""
        self.pods = []
        self.addresses = {}
        self.turn = 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        for port in ports:
            asyncio.run_coroutine_threadsafe(self.listen(port), self.loop).result()

    async def listen(self, port):
        async def accept(reader, writer):
            await self.connect(port, reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.addresses[port] = "{}:{}".format(*server.sockets[0].getsockname())

    def endpoints(self):
        now = time.monotonic()
        return [pod for pod in self.pods if pod.is_ready and (pod.deleted is None or now - pod.deleted < PROPAGATION)]

    async def connect(self, port, reader, writer):
        endpoints = self.endpoints()
        if not endpoints:
            writer.close()
            return
        self.turn += 1
        pod = endpoints[self.turn % len(endpoints)]
        try:
            far_reader, far_writer = await asyncio.open_connection(pod.address, pod.port(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))


async def forward(reader, writer):
    """Passes bytes on until either end closes the connection."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
