// The cards of the instances.

import { Lines, SAMPLES, Stack } from "./charts.js";
import { act, count, make, mark, plural, rate, say, send, time } from "./words.js";

export const ANSWERS = [
  ["l1", "Own memory"],
  ["l2", "Shared tier"],
  ["waited", "Another's query"],
  ["loaded", "Own query"],
  ["stale", "Stale value"],
  ["failed", "Error"],
];

export class InstanceCard {
  constructor(number) {
    this.number = number;
    this.history = [];
    this.isCut = false;
    this.chip = make("p", { class: "chip", "data-state": "wait" }, "Starting");
    this.total = make("b", {}, "–");
    this.stack = new Stack("Requests by answer", ANSWERS.map(([key]) => key));
    this.rates = new Map(ANSWERS.map(([key]) => [key, make("dd", {}, "–")]));
    this.small = {
      loads: this.spark("Loads", ["loads"]),
      p50: this.spark("Latency, p50", ["p50"]),
      p99: this.spark("Latency, p99", ["p99"]),
      lag: this.spark("Shows changes in", ["lag"]),
    };
    this.entries = make("p", { class: "note" }, "");
    this.button = make("button", { type: "button" }, "Cut its subscriber");
    this.result = make("p", { class: "result", role: "status" });
    this.button.addEventListener("click", () => this.cut());
    this.element = this.build();
  }

  spark(title, keys) {
    const chart = new Lines(title, keys);
    const figure = make("b", {}, "–");
    const element = make("div", { class: "small" }, make("p", {}, title), chart.svg, figure);
    return { chart, figure, element, title };
  }

  build() {
    const id = `instance-${this.number}`;
    const legend = make("dl", { class: "legend" });
    for (const [key, text] of ANSWERS) {
      const row = make("div", {}, make("dt", {}, make("i", { class: `swatch ${key}` }), text), this.rates.get(key));
      legend.append(row);
    }
    return make("article", { class: "card", "aria-labelledby": id },
      make("header", {}, make("h3", { id }, `Instance ${this.number}`), this.chip),
      make("div", { class: "big" }, make("p", {}, "Requests by answer"), this.total, this.stack.svg),
      legend,
      make("div", { class: "smalls" }, ...Object.values(this.small).map((spark) => spark.element)),
      make("footer", {}, this.entries, this.button),
      this.result);
  }

  cut() {
    const cut = !this.isCut;
    act(this.button, this.result, async () => {
      await send("/api/subscriber", { instance: this.number, cut });
      return "";
    });
  }

  show(view, isCut) {
    this.isCut = isCut;
    const sum = Object.values(view.rates).reduce((all, one) => all + one, 0);
    this.history.push({
      ...view.rates, loads: view.loads_per_s, p50: view.p50_us, p99: view.p99_us, lag: view.lag_ms,
    });
    if (this.history.length > SAMPLES) this.history.shift();
    const [state, text] = this.state(view, isCut);
    mark(this.chip, "state", state);
    say(this.chip, text);
    say(this.total, rate(sum));
    const parts = ANSWERS.map(([key, label]) => `${label} ${rate(view.rates[key])}`);
    this.stack.draw(this.history, `Requests by answer, the last 60 s. Now: ${parts.join(", ")}`);
    for (const [key, element] of this.rates) {
      say(element, rate(view.rates[key]));
      element.parentElement.classList.toggle("none", view.rates[key] === 0);
    }
    this.draw("loads", rate(view.loads_per_s));
    this.draw("p50", time(milliseconds(view.p50_us)));
    this.draw("p99", time(milliseconds(view.p99_us)));
    this.draw("lag", time(view.lag_ms));
    say(this.entries, `${plural(view.l1_entries, "copy", "copies")} held`);
    say(this.button, isCut ? "Reconnect its subscriber" : "Cut its subscriber");
    this.button.setAttribute("aria-label", `${this.button.textContent}: instance ${this.number}`);
    this.button.hidden = !view.alive;
  }

  draw(name, text) {
    const { chart, figure, title } = this.small[name];
    say(figure, text);
    chart.draw(this.history, `${title}, the last 60 s. Now: ${text}`);
  }

  state(view, isCut) {
    if (!view.alive) return ["bad", "Ended"];
    if (!view.reaches_tier) return ["warn", "No shared tier"];
    if (isCut) return ["warn", "Subscriber cut"];
    if (!view.l1_serves) return ["warn", "Memory paused"];
    return ["good", "Serves from memory"];
  }
}

const milliseconds = (us) => (us === null ? null : us / 1000);

// The sums over all instances, for the tiles.
export function sums(instances) {
  const all = { requests: 0, loaded: 0, failed: 0, lag: null };
  for (const { rates, lag_ms } of instances) {
    for (const [key] of ANSWERS) all.requests += rates[key];
    all.loaded += rates.loaded;
    all.failed += rates.failed;
    if (lag_ms !== null) all.lag = Math.max(all.lag ?? 0, lag_ms);
  }
  all.saved = all.requests === 0 ? null : 100 * (1 - (all.loaded + all.failed) / all.requests);
  return all;
}

export const queriesNote = (queries) => `${count(queries)} since the start`;
