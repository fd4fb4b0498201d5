"""The least a program can do: the same calls with the same SDK, raw streams, nothing stored."""

import asyncio
import sys
from typing import Any

import anthropic


async def main(base_url: str, calls: int, concurrency: int) -> None:
    """Make so many calls, half of them like a judge's: a plain reply."""
    client = anthropic.AsyncAnthropic(api_key="key", base_url=base_url, max_retries=0)
    slots = asyncio.Semaphore(concurrency)

    async def call(number: int) -> None:
        messages: list[Any] = [
            {"role": "user", "content": f"Where is parcel {number}? It was due on Monday."}
        ]
        async with slots:
            if number % 2:
                await client.messages.create(
                    model="sandbox-swift",
                    max_tokens=512,
                    messages=messages,
                )
                return
            stream: anthropic.AsyncStream[Any] = await client.messages.create(
                model="sandbox-prime",
                max_tokens=512,
                messages=messages,
                stream=True,
            )
            async for _event in stream:
                pass

    await asyncio.gather(*(call(number) for number in range(calls)))
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
