"""aiortc as the other side: plain bytes over one data channel, both ways.

    peer.py offer|answer SEND SAVE EXPECTED

The descriptions travel as one line of JSON each, ours on stdout and the other's on stdin. The file
SEND is sent, EXPECTED bytes are received into SAVE, and then the channel is closed.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

MESSAGE = 16 * 1024
BUFFER = 1 << 20


async def main():
    role, send, save, expected = sys.argv[1:]
    # Without the list aiortc would ask a public STUN server.
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.on("connectionstatechange", lambda: say(f"connection: {pc.connectionState}"))
    if role == "offer":
        peer = Peer(pc.createDataChannel("aiortc"))
        await pc.setLocalDescription(await pc.createOffer())
        tell(pc.localDescription)
        await pc.setRemoteDescription(await heard())
    else:
        found = asyncio.get_running_loop().create_future()
        # Made inside the callback: what comes before somebody listens is lost.
        pc.on("datachannel", lambda channel: found.set_result(Peer(channel)))
        await pc.setRemoteDescription(await heard())
        await pc.setLocalDescription(await pc.createAnswer())
        tell(pc.localDescription)
        peer = await found
    await peer.opened.wait()
    _, received = await asyncio.gather(peer.send(Path(send).read_bytes()), peer.receive(int(expected)))
    Path(save).write_bytes(received)
    # The end of the channel must not be announced before the last message has arrived: rtc 0.21.1,
    # on which knothole stands, loses that message then (`drain_stream` returns an error instead).
    while pc.sctp._outbound_queue or pc.sctp._sent_queue:
        await asyncio.sleep(0.01)
    peer.channel.close()
    await peer.closed.wait()
    await pc.close()
    say("done")


class Peer:
    def __init__(self, channel):
        self.channel = channel
        self.mail = asyncio.Queue()
        self.opened, self.closed, self.room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        channel.bufferedAmountLowThreshold = BUFFER // 2
        channel.on("open", self.opened.set)
        channel.on("close", self.closed.set)
        channel.on("close", lambda: self.mail.put_nowait(None))
        channel.on("message", self.mail.put_nowait)
        channel.on("bufferedamountlow", self.room.set)
        if channel.readyState == "open":
            self.opened.set()

    async def send(self, contents):
        for at in range(0, len(contents), MESSAGE):
            while self.channel.bufferedAmount >= BUFFER:
                self.room.clear()
                await self.room.wait()
            self.channel.send(contents[at : at + MESSAGE])

    async def receive(self, expected):
        received = bytearray()
        while len(received) < expected:
            message = await self.mail.get()
            if message is None:
                raise EOFError(f"the channel was closed after {len(received)} bytes")
            received += message.encode() if isinstance(message, str) else message
        return received


def tell(description):
    print(json.dumps({"type": description.type, "sdp": description.sdp}), flush=True)


async def heard():
    line = await asyncio.to_thread(sys.stdin.readline)
    return RTCSessionDescription(**json.loads(line))


def say(text):
    print(text, file=sys.stderr, flush=True)


asyncio.run(main())
