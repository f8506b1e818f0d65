// Starts the page: facts once, then a pulse from the server twice a second.

import { Product } from "./copies.js";
import { InstanceCard, queriesNote, sums } from "./instances.js";
import { $, act, count, make, mark, plural, rate, read, say, send, time } from "./words.js";

const TIERS = { memory: "the shared tier", own_redis: "Redis", foreign_redis: "Redis" };

let facts;
let cards;
let product;
let stream;
let stopped = false;
let lastEntry = 0;

async function start() {
  try {
    facts = await read(await fetch("/api/facts"));
  } catch (error) {
    lost(`The server does not answer: ${error.message}`);
    setTimeout(start, 1000);
    return;
  }
  say($("mode"), `${facts.mode}; ${plural(facts.products, "product", "products")} in SQLite, fresh for ${facts.ttl_s} s; ${plural(facts.rate, "request", "requests")}/s come from the demo itself`);
  cards = [];
  for (let number = 1; number <= facts.instances; number += 1) cards.push(new InstanceCard(number));
  $("cards").replaceChildren(...cards.map((card) => card.element));
  product = new Product(facts, listen);
  trials();
  listen(product.id);
}

// Takes pulses, with the copies of this product.
function listen(id) {
  stream?.close();
  stream = new EventSource(`/api/live?product=${id}`);
  stream.onmessage = (event) => show(JSON.parse(event.data));
  stream.onerror = () => lost("This page has lost the server, and tries to reach it again.");
}

function lost(text) {
  mark($("link"), "state", "bad");
  say($("link"), "Not connected");
  banner("bad", [{ what: text, effect: "The figures below are old." }]);
}

function show(pulse) {
  mark($("link"), "state", "good");
  say($("link"), "Live");
  const all = sums(pulse.instances);
  say($("requests"), rate(all.requests));
  say($("saved"), all.saved === null ? "–" : `${all.saved.toFixed(1)} %`);
  say($("queries"), rate(pulse.queries_per_s));
  say($("queries-note"), queriesNote(pulse.queries));
  say($("lag"), time(all.lag));
  say($("stale"), count(pulse.promise.stale));
  const more = pulse.promise.unbound === 0 ? "" : `; ${count(pulse.promise.unbound)} more while cut off`;
  say($("checked"), `of ${count(pulse.promise.checked)}; promised: ${time(pulse.promise.max_staleness_ms).replace(" ", "\u00a0")}${more}`);
  mark($("promise"), "state", pulse.promise.stale === 0 ? "good" : "bad");
  pulse.instances.forEach((view, i) => cards[i].show(view, pulse.switches.cut[i]));
  if (pulse.product.id === product.id) product.show(pulse.product, pulse.instances);
  switches(pulse.switches);
  outbox(pulse.outbox);
  const fine = { what: "All is well.", effect: "Every instance answers from its own memory, and hears of every change." };
  if (pulse.problems.length === 0) banner("good", [fine]);
  else banner("warn", pulse.problems);
  log(pulse.log);
}

// A status region is read aloud when it changes, so it changes only with its words.
function banner(state, problems) {
  const element = $("banner");
  mark(element, "state", state);
  const text = problems.map(({ what, effect }) => `${what} ${effect}`).join("\n");
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  element.replaceChildren(...problems.map(({ what, effect }) => make("p", {}, make("b", {}, what), ` ${effect}`)));
}

function log(entries) {
  const newest = entries[0]?.number ?? 0;
  if (newest === lastEntry) return;
  lastEntry = newest;
  $("log").replaceChildren(...entries.slice(0, 14).map(({ at_s, text }) =>
    make("li", {}, make("span", { class: "when" }, at_s.toFixed(1)), make("span", {}, text))));
}

function switches({ tier_stopped, database }) {
  stopped = tier_stopped;
  say($("tier"), tier_stopped ? "Let it run again" : "Stop it");
  const radio = document.querySelector(`input[name=database][value=${database}]`);
  if (!radio.checked && !radio.closest("fieldset").dataset.busy) radio.checked = true;
}

function outbox(seen) {
  if (seen === null) return;
  const oldest = seen.rows === 0 ? "" : `, the oldest for ${time(seen.oldest_s * 1000)}`;
  const waiting = `${plural(seen.rows, "row waits", "rows wait")}${oldest}; ${plural(seen.applied, "row", "rows")} applied.`;
  const who = seen.at_work === null ? "No relay is at work." : `The relay of instance ${seen.at_work} is at work.`;
  say($("outbox"), `In the outbox: ${waiting} ${who}`);
}

function trials() {
  const name = TIERS[facts.tier];
  say($("tier-title"), `Stop ${name}`);
  const about = {
    memory: "The tier that the instances share, in this process. Nobody can reach it then.",
    own_redis: "The process of the demo's own Redis is stopped (SIGSTOP): connections stay open, and nothing answers.",
    foreign_redis: "This Redis is not the demo's own, so it is never stopped. Start the demo with --redis spawn for one that may be.",
  };
  say($("tier-about"), about[facts.tier]);
  $("tier").hidden = facts.tier === "foreign_redis";

  $("rush").addEventListener("click", () => act($("rush"), $("rush-result"), async () => {
    const { product: id, tasks, failed, queries, slowest_ms, query_ms, instances } = await send("/api/rush");
    const words = `${count(tasks)} requests on ${plural(instances, "instance", "instances")} for product ${id}: ${plural(queries, "query", "queries")}.`;
    const errors = failed === 0 ? "" : ` ${count(failed)} of them got an error.`;
    return `${words} The slowest request took ${time(slowest_ms)}, of which the query took ${query_ms}.${errors}`;
  }));
  $("crash-trial").hidden = !facts.outbox;
  $("crash").addEventListener("click", () => act($("crash"), $("crash-result"), () => product.crash()));
  $("tier").addEventListener("click", () => act($("tier"), $("tier-result"), async () => {
    await send("/api/tier", { stopped: !stopped });
    return "";
  }));
  for (const radio of document.querySelectorAll("input[name=database]")) {
    radio.addEventListener("change", async () => {
      const field = radio.closest("fieldset");
      field.dataset.busy = "yes";
      try {
        await send("/api/database", { health: radio.value });
        say($("database-result"), "");
      } catch (error) {
        mark($("database-result"), "state", "error");
        say($("database-result"), `It did not work: ${error.message}`);
      } finally {
        delete field.dataset.busy;
      }
    });
  }
}

start();
