// Figures in words, and small helpers for the document.

export const $ = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });

export const count = (n) => whole.format(n);
export const price = (cents) => money.format(cents / 100);
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
export const rate = (n) => `${n > 0 && n < 9.95 ? n.toFixed(1) : count(n)}/s`;

// A duration in milliseconds, to two or three digits.
export function time(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms === 0) return "0 ms";
  if (ms < 0.01) return `${(ms * 1000).toFixed(1)} µs`;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1).replace(".0", "")} s`;
}

export function age(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// Makes an element. What is not a node becomes text: nothing from the server is read as HTML.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Sets a text, and leaves the document alone if it is the same.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

// Sends a request that changes something. An error has the server's reason.
export async function send(path, body, method = "POST") {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(path, { method, headers, body: JSON.stringify(body ?? {}) });
  return read(answer);
}

export async function read(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `the server answered ${answer.status}`);
  return body;
}

// Runs an action for a button: the button says that it works, and a failure is said in the result.
export async function act(button, result, action) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  mark(result, "state", "busy");
  try {
    const text = await action();
    mark(result, "state", "done");
    if (typeof text === "string") say(result, text);
  } catch (error) {
    mark(result, "state", "error");
    say(result, `It did not work: ${error.message}`);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
