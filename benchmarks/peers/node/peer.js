// The npm peers. One line of JSON asks for a round, and one line answers. See benchmarks/src/peer/mod.rs.
//
// The driver's rules of measurement apply. A round ends at its `limit_ms` even if it is not complete. Its figure
// is per lookup, so it remains comparable.

import assert from 'node:assert'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis'
import DataLoader from 'dataloader'

const KEYS = 1000
const BENTO = 'bentocache (npm)'
const SIDES = {
  l1: [BENTO],
  l2: [BENTO],
  cold: [BENTO],
  stampede: [BENTO],
  fleet: [BENTO],
  loader: ['dataloader (npm)'],
}

/** The side cannot do this job, for this reason. */
class Absent extends Error {}

const row = (id, bytes) => ({ id, text: 'x'.repeat(bytes) })
const now = () => performance.now()

function connection(ask) {
  const { hostname, port } = new URL(ask.redis)
  return { host: hostname, port: Number(port) }
}

/** A cache with the requested tiers, and a function that ends its connections. */
function bento(ask, tiers) {
  let store = bentostore()
  // By default its memory tier stores JSON. Here it stores unencoded values, as the others do. Above Redis it must
  // store JSON: otherwise 1.6.1 fails on values from Redis ("reading 'deserialize'").
  if (tiers.memory) {
    const serialize = tiers.redis === true
    store = store.useL1Layer(memoryDriver({ maxItems: tiers.memory, serialize }))
  }
  if (tiers.redis) store = store.useL2Layer(redisDriver({ connection: connection(ask), prefix: `bento-${ask.job}` }))
  if (tiers.bus) store = store.useBus(redisBusDriver({ connection: connection(ask) }))
  return new BentoCache({ default: 'only', stores: { only: store }, ttl: '1h' })
}

// L1

function zipf(keys, length) {
  const names = Array.from({ length: keys }, (_, i) => `user:${String(i).padStart(6, '0')}`)
  let sum = 0
  const cumulated = names.map((_, i) => (sum += (i + 1) ** -0.99))
  return Array.from({ length }, () => {
    const drawn = Math.random() * sum
    let [low, high] = [0, keys - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (cumulated[middle] < drawn) low = middle + 1
      else high = middle
    }
    return names[low]
  })
}

async function l1(ask) {
  if (ask.keys !== KEYS || ask.key !== 'str' || ask.threads !== 1 || ask.verb !== 'get') {
    throw new Absent('driven with `get` of 1,000 hot `str` keys on one thread only')
  }
  const cache = bento(ask, { memory: ask.keys * 2 })
  const order = zipf(ask.keys, ask.lookups)
  const value = new Uint8Array(ask.bytes)
  for (const key of new Set(order)) await cache.set({ key, value })
  const round = async () => {
    const start = now()
    let done = 0
    while (done < order.length && now() - start < ask.limit_ms) {
      for (const key of order.slice(done, done + 1000)) await cache.get({ key })
      done += 1000
    }
    return { value: ((now() - start) * 1e6) / Math.min(done, order.length) }
  }
  return { round, end: () => cache.disconnectAll() }
}

// L2

async function oneByOne(ask, operate) {
  const samples = []
  const begin = now()
  for (let i = 0; i < ask.operations && now() - begin < ask.limit_ms; i++) {
    const start = now()
    await operate(i)
    samples.push((now() - start) * 1000)
  }
  samples.sort((a, b) => a - b)
  return { value: samples[samples.length >> 1] }
}

async function l2(ask) {
  const cache = bento(ask, { redis: true })
  for (let i = 0; i < KEYS; i++) await cache.set({ key: `${ask.bytes}:${i}`, value: row(i, ask.bytes) })
  const lookup = async (i) => assert.equal((await cache.get({ key: `${ask.bytes}:${i % KEYS}` })).id, i % KEYS)
  const each = Math.floor(ask.operations / ask.tasks)
  const rate = async () => {
    const start = now()
    let done = 0
    const task = async (begin) => {
      for (let i = begin; i < begin + each && now() - start < ask.limit_ms; i++, done++) await lookup(i)
    }
    await Promise.all(Array.from({ length: ask.tasks }, (_, n) => task(n * each)))
    return { value: done / ((now() - start) / 1000) }
  }
  const round = { 'lookups/s': rate, µs: () => oneByOne(ask, lookup) }[ask.unit]
  return { round, end: () => cache.disconnectAll() }
}

// Keys that no earlier case had: another address may lead to the same server.
let fresh = 0

async function cold(ask) {
  const cache = bento(ask, { memory: 10_000, redis: true, bus: true })
  const miss = () => {
    const id = ++fresh
    return cache.getOrSet({ key: `${id}`, factory: async () => row(id, ask.bytes) })
  }
  return { round: () => oneByOne(ask, miss), end: () => cache.disconnectAll() }
}

// Many tasks on one cold key

async function stampede(ask) {
  const cache = bento(ask, { memory: 1000, redis: ask.job === 'fleet', bus: ask.job === 'fleet' })
  let key = 0
  const round = async () => {
    let [loads, slowest] = [0, 0]
    const id = ++key
    const factory = async () => {
      loads++
      await sleep(ask.loading_ms)
      return row(id, 100)
    }
    const start = now()
    const task = async () => {
      await cache.getOrSet({ key: `${id}`, factory })
      slowest = Math.max(slowest, now() - start)
    }
    await Promise.all(Array.from({ length: ask.tasks }, task))
    return { value: slowest, loads }
  }
  return { round, end: () => cache.disconnectAll() }
}

// DataLoader

async function loader(ask) {
  const round = async () => {
    let batches = 0
    const batch = async (keys) => {
      batches++
      if (ask.batch_ms) await sleep(ask.batch_ms)
      return keys
    }
    const loader = new DataLoader(batch, { maxBatchSize: ask.batch })
    const keys = Array.from({ length: ask.keys }, (_, i) => i)
    const start = now()
    const found = await Promise.all(keys.map((key) => loader.load(key)))
    const value = now() - start
    assert.deepEqual(found, keys)
    return { value, loads: batches }
  }
  return { round, end: () => {} }
}

const JOBS = { l1, l2, cold, stampede, fleet: stampede, loader }
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)

say(SIDES)
// The setup of the current case. Another case drops it.
let [last, rounds] = ['', new Map()]
for await (const line of createInterface({ input: process.stdin })) {
  const { side, at_ms: at, ...ask } = JSON.parse(line)
  try {
    if (JSON.stringify(ask) !== last) {
      for (const { end } of rounds.values()) await end()
      ;[last, rounds] = [JSON.stringify(ask), new Map()]
    }
    if (!rounds.has(side)) rounds.set(side, await JOBS[ask.job](ask))
    if (at) await sleep(Math.max(0, at - Date.now()))
    say(await rounds.get(side).round())
  } catch (error) {
    say({ absent: error instanceof Absent ? error.message : `${error}` })
  }
}
process.exit(0)
