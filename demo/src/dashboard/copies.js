// One product: its row in the database, and the copies in the memory of the instances.

import { $, act, age, make, mark, plural, price, read, say, send, time } from "./words.js";

const FIELDS = [["version", "Version"], ["price", "Price"], ["stock", "Stock"], ["age", "Age"], ["source", "Source"]];
// How long a changed field is highlighted.
const HIGHLIGHT_MS = 8000;

export class Product {
  constructor(facts, choose) {
    this.facts = facts;
    this.choose = choose;
    this.id = facts.quiet;
    this.row = null;
    this.cards = [];
    for (let number = 1; number <= facts.instances; number += 1) {
      this.cards.push(new CopyCard(number));
      $("writer").append(make("option", { value: number }, `instance ${number}`));
    }
    $("copies").replaceChildren(...this.cards.map((card) => card.element));
    $("product").value = this.id;
    $("product").max = facts.quiet;
    $("choose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.pick(Number($("product").value));
    });
    $("change").addEventListener("click", () => act($("change"), $("change-result"), () => this.change()));
    $("read").addEventListener("click", () => act($("read"), $("change-result"), () => this.readAll()));
    this.search();
  }

  pick(id) {
    this.id = id;
    this.row = null;
    $("product").value = id;
    say($("change-result"), "");
    this.cards.forEach((card) => card.clear());
    this.choose(id);
  }

  search() {
    const tags = ["kettle", "ladder", "lamp", "teapot", "chair", "umbrella", "clock", "bench", "compass"];
    $("tag").append(...tags.map((tag) => make("option", { value: tag }, tag)));
    $("tag").addEventListener("change", () => this.find($("tag").value));
  }

  async find(tag) {
    const found = $("found");
    found.hidden = tag === "";
    if (tag === "") return;
    try {
      const { products } = await read(await fetch(`/products?tag=${encodeURIComponent(tag)}`));
      found.replaceChildren(...products.map((product) => {
        const button = make("button", { type: "button", class: "plain" }, product.name);
        button.addEventListener("click", () => this.pick(product.id));
        return make("li", {}, button);
      }));
    } catch (error) {
      found.replaceChildren(make("li", {}, `The search did not work: ${error.message}`));
    }
  }

  async readAll() {
    const answers = this.cards.map(async (card) => {
      const answer = await fetch(`/instances/${card.number}/products/${this.id}`);
      await read(answer);
      return `instance ${card.number}: ${SOURCES[answer.headers.get("x-cache")]}`;
    });
    return `Answered on ${(await Promise.all(answers)).join("; ")}.`;
  }

  async change() {
    if (this.row === null) throw new Error(`there is no product ${this.id}`);
    const writer = Number($("writer").value);
    const result = await send("/api/change", { product: this.id, instance: writer, price_cents: anyPrice() });
    const until = Date.now() + HIGHLIGHT_MS;
    this.cards.forEach((card) => card.arrive(result, until));
    const words = [`Instance ${writer} changed the price from ${price(result.from_cents)} to ${price(result.to_cents)}.`];
    for (const { instance, dropped_ms, shown_ms, error } of result.arrivals) {
      if (shown_ms === null) words.push(`Instance ${instance} has not shown it: ${error}.`);
      else words.push(`Instance ${instance} showed it ${after(shown_ms)}${dropped_ms === null ? "" : `, its copy was gone ${after(dropped_ms)}`}.`);
    }
    if (result.pending !== null) words.push(`The invalidation is being retried: ${result.pending}.`);
    return words.join(" ");
  }

  // A process changes the product without traffic, and is killed after its commit.
  async crash() {
    if (this.id !== this.facts.quiet) this.pick(this.facts.quiet);
    const result = await send("/api/crash", { price_cents: anyPrice() });
    const until = Date.now() + HIGHLIGHT_MS;
    this.cards.forEach((card) => card.arrive(result, until));
    const words = [
      `A process changed the price of product ${result.product} from ${price(result.from_cents)} to ${price(result.to_cents)}, and was killed ${time(result.killed_ms)} after its commit (${result.status}).`,
      `It invalidated nothing; ${plural(result.rows, "row was", "rows were")} in the outbox.`,
    ];
    if (result.last_gone_ms !== null) words.push(`The last of ${plural(result.arrivals.length, "copy", "copies")} was gone ${time(result.last_gone_ms)} after the commit.`);
    for (const { instance, dropped_ms, error } of result.arrivals) {
      if (dropped_ms !== null) words.push(`Instance ${instance}: ${after(dropped_ms)}.`);
      else words.push(`Instance ${instance} has dropped no copy${error === null ? "" : `: ${error}`}.`);
    }
    return words.join(" ");
  }

  show({ row, copies }, instances) {
    this.row = row;
    const element = $("row");
    if (row === null) {
      say(element, `The database has no product ${this.id}.`);
    } else {
      say(element, `In the database: ${row.name}, ${price(row.price_cents)}, ${row.stock.toLocaleString("en")} in stock, version ${row.version}`);
    }
    const about = this.id === this.facts.quiet ? "Nothing but this page reads or changes this product." : "The traffic of the demo reads and changes this product, too.";
    say($("product-about"), about);
    copies.forEach((copy, i) => this.cards[i].show(copy.held, row, instances[i], this.facts.ttl_s));
  }
}

const anyPrice = () => 100 + Math.floor(Math.random() * 50000);

// Times count from the return of the change, or of the commit.
const after = (ms) => (ms === 0 ? "at once" : `after ${time(ms)}`);

const SOURCES = {
  l1: "from its own memory", l2: "from the shared tier", loaded: "by a query", waited: "from the shared tier or another's query", stale: "with a stale value",
};

class CopyCard {
  constructor(number) {
    this.number = number;
    this.until = 0;
    this.was = 0;
    this.state = make("p", { class: "chip", "data-state": "none" }, "No copy");
    this.values = new Map(FIELDS.map(([key]) => [key, make("dd", {}, "–")]));
    this.arrival = make("p", { class: "arrival" });
    const fields = FIELDS.map(([key, text]) => make("div", { "data-field": key }, make("dt", {}, text), this.values.get(key)));
    this.element = make("li", { class: "copy" },
      make("header", {}, make("h3", {}, `Instance ${number}`), this.state),
      make("dl", {}, ...fields),
      this.arrival);
  }

  clear() {
    this.until = 0;
    say(this.arrival, "");
  }

  arrive(result, until) {
    this.until = until;
    this.was = result.from_cents;
    if (result.written_on === this.number) {
      say(this.arrival, "Made the change");
      return;
    }
    const arrival = result.arrivals.find(({ instance }) => instance === this.number);
    if (arrival === undefined) say(this.arrival, "");
    else if (arrival.shown_ms === null) say(this.arrival, "Has not shown it");
    else say(this.arrival, `Showed it ${after(arrival.shown_ms)}`);
  }

  show(held, row, view, ttl) {
    const [state, text] = this.status(held, row, view, ttl);
    mark(this.state, "state", state);
    say(this.state, text);
    const changed = Date.now() < this.until;
    this.element.classList.toggle("changed", changed);
    this.element.classList.toggle("empty", held === null);
    const was = changed && held !== null && held.price_cents !== this.was ? `${price(this.was)} → ` : "";
    const values = held === null ? {} : {
      version: String(held.version), price: was + price(held.price_cents), stock: held.stock.toLocaleString("en"),
      age: age(held.age_s),
      source: held.from_tier ? `Shared tier; queried by instance ${held.queried_by}` : "Its own query",
    };
    for (const [key, element] of this.values) say(element, values[key] ?? "–");
  }

  status(held, row, view, ttl) {
    if (!view.alive) return ["bad", "Ended"];
    if (held === null) return ["none", "No copy"];
    if (row !== null && held.version < row.version) return ["warn", "Older than the database"];
    if (held.age_s > ttl) return ["warn", "Expired, a fallback"];
    if (!view.l1_serves) return ["warn", "Must be verified"];
    return ["good", "Answers"];
  }
}
