/** The rate of changes over the last minute, as a line and as a number, and how far behind the page is. */

const SECONDS = 60;
const HEIGHT = 24;

export class Rate {
  #line;
  #text;
  /** @type {number[]} */
  #counts = new Array(SECONDS).fill(0);
  #now = 0;
  #lag = "";

  /** @param {SVGElement} picture  with a polyline @param {HTMLElement} text */
  constructor(picture, text) {
    this.#line = /** @type {SVGPolylineElement} */ (picture.querySelector("polyline"));
    this.#text = text;
    picture.setAttribute("viewBox", `0 0 ${SECONDS - 1} ${HEIGHT}`);
    setInterval(() => this.#tick(), 1_000);
    this.#draw();
  }

  /**
   * @param {number} changes
   * @param {string} position  of the batch: its cluster time has whole seconds
   */
  take(changes, position) {
    this.#now += changes;
    const [, seconds] = /^t(\d+)\./.exec(position) ?? [];
    if (!seconds) return;
    const lag = Math.floor(Date.now() / 1_000) - Number(seconds);
    this.#lag = lag <= 1 ? "lag under 2 s" : `lag ${lag} s`;
  }

  #tick() {
    this.#counts.push(this.#now);
    this.#counts.shift();
    this.#now = 0;
    this.#draw();
  }

  #draw() {
    const max = Math.max(1, ...this.#counts);
    const y = (/** @type {number} */ count) => HEIGHT - 1 - (count / max) * (HEIGHT - 2);
    this.#line.setAttribute("points", this.#counts.map((count, x) => `${x},${y(count).toFixed(1)}`).join(" "));
    const last = this.#counts.at(-1);
    const rate = `${last} ${last === 1 ? "change" : "changes"}/s`;
    this.#text.textContent = this.#lag ? `${rate}, ${this.#lag}` : rate;
  }
}
