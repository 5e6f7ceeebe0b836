// SPDX-License-Identifier: Apache-2.0

// How far the running requests are, together.

const FEW = 4; // requests, whose number alone needs no bar

export class Progress {
  #bar;
  #shares = []; // by request, from 0 to 1
  #runs = []; // by request that has reported: the runs of the model that are done, and all that are expected

  /** bar: a <progress>, shown as soon as there is something to show. */
  constructor(bar) {
    this.#bar = bar;
  }

  /** Begins with this number of requests; 0 ends it. */
  begin(requests) {
    this.#shares = Array(requests).fill(0);
    this.#runs = [];
    this.#bar.hidden = true;
    this.#bar.value = 0;
  }

  /** A request has run the model `done` times out of `total`. */
  tell(request, done, total) {
    this.#runs[request] = [done, total];
    this.#show(request, total ? done / total : 0);
  }

  finish(request) {
    if (this.#runs[request]) this.#runs[request][0] = this.#runs[request][1];
    this.#show(request, 1);
  }

  /** In words; empty where there is nothing to say. */
  get text() {
    if (this.#bar.hidden) return "";
    const [done, total] = this.#runs.filter(Boolean).reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
    const answered = this.#shares.filter((share) => share === 1).length;
    const requests = this.#shares.length > 1 ? `${answered} of ${this.#shares.length} explanations` : "";
    const runs = total ? `${done.toLocaleString("en")} of ${total.toLocaleString("en")} runs of the model` : "";
    return [requests, runs].filter(Boolean).join(", ");
  }

  #show(request, share) {
    this.#shares[request] = share;
    const whole = this.#shares.reduce((a, b) => a + b, 0) / this.#shares.length;
    this.#bar.value = Math.max(this.#bar.value, whole); // never back, although a request may expect more runs
    const worthIt = this.#runs.length > 0 || this.#shares.length > FEW;
    this.#bar.hidden = whole === 1 || !worthIt;
  }
}
