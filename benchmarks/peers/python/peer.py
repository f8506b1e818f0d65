"""The Python peers. One line of JSON asks for a round, and one line answers. See benchmarks/src/peer/mod.rs.

The driver's rules of measurement apply. A round ends at its `limit_ms` even if it is not complete. Its figure
is per lookup, so it remains comparable.
"""

import asyncio
import itertools
import json
import random
import sys
import time

from cache import AsyncCache
from cashews import Cache

KEYS = 1000
PYTHON_CACHE = "async-cache (Python)"
CASHEWS = "cashews (Python)"
# Keys that no earlier case had: another address may lead to the same server.
FRESH = itertools.count()
SIDES = {
    "l1": [PYTHON_CACHE, CASHEWS],
    "l2": [CASHEWS, PYTHON_CACHE],
    "cold": [CASHEWS, PYTHON_CACHE],
    "stampede": [PYTHON_CACHE, CASHEWS],
    "fleet": [PYTHON_CACHE, CASHEWS],
    "loader": [PYTHON_CACHE],
}


class Absent(Exception):
    """The side cannot do this job, for this reason."""


def row(key, size):
    return {"id": key, "text": "x" * size}


def limit(ask):
    return time.perf_counter() + ask["limit_ms"] / 1000


def median(samples):
    samples.sort()
    return samples[len(samples) // 2]


async def shared(ask, **options):
    """Cashews on the Redis of the run. It has one connection for each task, up to its default of 10."""
    cache = Cache()
    cache.setup(ask["redis"], **options)
    await cache.init()
    return cache


# L1


def zipf(keys, length):
    weights = [rank**-0.99 for rank in range(1, keys + 1)]
    names = [f"user:{i:06}" for i in range(keys)]
    random.seed(7)
    random.shuffle(names)
    return random.choices(names, weights, k=length)


async def l1(side, ask):
    if (ask["keys"], ask["key"], ask["threads"], ask["verb"]) != (KEYS, "str", 1, "get"):
        raise Absent("driven with `get` of 1,000 hot `str` keys on one thread only")
    order = zipf(ask["keys"], ask["lookups"])
    value = bytes(ask["bytes"])
    if side == PYTHON_CACHE:
        cache = AsyncCache(maxsize=ask["keys"] * 2)
        for name in set(order):
            cache.set(name, value)
    else:
        cache = Cache()
        cache.setup("mem://", size=ask["keys"] * 2)
        await cache.init()
        for name in set(order):
            await cache.set(name, value)
    get = cache.get

    async def timed():
        done, start, end = 0, time.perf_counter(), limit(ask)
        while done < len(order) and time.perf_counter() < end:
            for name in order[done : done + 1000]:
                await get(name)
            done += 1000
        return (time.perf_counter() - start) * 1e9 / min(done, len(order)), None

    return timed


# L2


async def l2(side, ask):
    if side == PYTHON_CACHE:
        raise Absent("has no Redis tier")
    cache, size = await shared(ask), ask["bytes"]
    for i in range(KEYS):
        await cache.set(f"cashews-{size}:{i}", row(i, size), expire=3600)

    async def lookup(i):
        assert (await cache.get(f"cashews-{size}:{i % KEYS}"))["id"] == i % KEYS

    async def rate():
        tasks, end = ask["tasks"], limit(ask)
        each = ask["operations"] // tasks

        async def task(begin):
            for i in range(begin, begin + each):
                if time.perf_counter() > end:
                    return i - begin
                await lookup(i)
            return each

        start = time.perf_counter()
        done = await asyncio.gather(*(task(n * each) for n in range(tasks)))
        return sum(done) / (time.perf_counter() - start), None

    async def latency():
        return await one_by_one(ask, lookup), None

    return {"lookups/s": rate, "µs": latency}[ask["unit"]]


async def one_by_one(ask, operate):
    samples, end = [], limit(ask)
    for i in range(ask["operations"]):
        start = time.perf_counter()
        if start > end:
            break
        await operate(i)
        samples.append((time.perf_counter() - start) * 1e6)
    return median(samples)


async def cold(side, ask):
    if side == PYTHON_CACHE:
        raise Absent("has no Redis tier")
    cache = await shared(ask)
    size = ask["bytes"]

    @cache(ttl="1h", key="cashews-cold:{key}")
    async def load(key):
        return row(key, size)

    async def timed():
        return await one_by_one(ask, lambda _: load(next(FRESH))), None

    return timed


# Many tasks on one cold key


def storms(ask, lookup, counted):
    keys = itertools.count(1)

    async def storm():
        key, before, slowest = next(keys), counted[0], 0.0
        start = time.perf_counter()

        async def task():
            nonlocal slowest
            await lookup(key)
            slowest = max(slowest, time.perf_counter() - start)

        await asyncio.gather(*(task() for _ in range(ask["tasks"])))
        return slowest * 1000, counted[0] - before

    return storm


async def stampede(side, ask):
    pause, counted = ask["loading_ms"] / 1000, [0]

    async def load(key):
        counted[0] += 1
        await asyncio.sleep(pause)
        return row(key, 100)

    if side == PYTHON_CACHE:
        cache = AsyncCache(maxsize=1000)
        return storms(ask, lambda key: cache.get(key, loader=lambda: load(key)), counted)
    if ask["job"] == "fleet":
        cashews = await shared(ask)
    else:
        cashews = Cache()
        cashews.setup("mem://", size=1000)
        await cashews.init()
    cached = cashews(ttl="1h", key="cashews-stampede:{key}", lock=True)(load)
    return storms(ask, cached, counted)


# DataLoader


async def loader(_side, ask):
    async def timed():
        batches, cache = 0, AsyncCache(maxsize=ask["keys"] * 2, max_batch_size=ask["batch"])

        async def batch(keys):
            nonlocal batches
            batches += 1
            if ask["batch_ms"]:
                await asyncio.sleep(ask["batch_ms"] / 1000)
            return {key: key for key in keys}

        start = time.perf_counter()
        found = await asyncio.gather(*(cache.get(key, batch_loader=batch) for key in range(ask["keys"])))
        took = (time.perf_counter() - start) * 1000
        assert found == list(range(ask["keys"]))
        return took, batches

    return timed


JOBS = {"l1": l1, "l2": l2, "cold": cold, "stampede": stampede, "fleet": stampede, "loader": loader}


async def main():
    say = lambda what: print(json.dumps(what), flush=True)  # noqa: E731
    loop = asyncio.get_running_loop()
    say(SIDES)
    # The setup of the current case. Another case drops it.
    case, rounds = None, {}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ask = json.loads(line)
        side, at = ask.pop("side"), ask.pop("at_ms", None)
        if ask != case:
            case, rounds = ask, {}
        try:
            if side not in rounds:
                rounds[side] = await JOBS[ask["job"]](side, ask)
            if at:
                await asyncio.sleep(max(0.0, at / 1000 - time.time()))
            value, loads = await rounds[side]()
            say({"value": value, "loads": loads})
        except Absent as why:
            say({"absent": str(why)})
        except Exception as error:  # noqa: BLE001: the driver prints it in the table's notes
            say({"absent": f"{type(error).__name__}: {error}"})


asyncio.run(main())
