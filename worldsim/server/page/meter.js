// Figures of the page: pictures a second, and the time from a key to the picture that answers it.

const KEPT = 120;

export class Meter {
  constructor() {
    this.clear();
  }

  clear() {
    this.shown = []; // ms
    this.waiting = null; // the first unanswered input: its number and time
    this.latencies = []; // ms
  }

  // An input that was sent with this number; at: when the browser took it from the system, in ms.
  pressed(number, at) {
    this.waiting ??= { number, at };
  }

  // A picture on the canvas that answers the inputs up to a number; it counts when the browser hands it to the screen.
  painted(answers) {
    const now = performance.now();
    this.shown.push(now);
    if (this.shown.length > 40) this.shown.shift();
    if (this.waiting && answers >= this.waiting.number) {
      const { at } = this.waiting;
      this.waiting = null;
      requestAnimationFrame(() => this.answered(performance.now() - at));
    }
  }

  answered(took) {
    this.latencies.push(took);
    if (this.latencies.length > KEPT) this.latencies.shift();
  }

  get fps() {
    const [first, last] = [this.shown[0], this.shown.at(-1)];
    return this.shown.length > 2 ? (1000 * (this.shown.length - 1)) / (last - first) : null;
  }

  quantile(share) {
    const sorted = this.latencies.toSorted((one, other) => one - other);
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null;
  }
}
