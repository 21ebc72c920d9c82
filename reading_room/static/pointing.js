// Pointing at a region with mouse, keys or a gaze file; the server hears of it when the hand rests.

import { parseGaze } from "./gaze.js";
import { MOST, boxOf } from "./regions.js";

const REST = 350; // ms without a change
const ARROWS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
};

export class Pointing {
  /** @param tell is called with what the server is asked with; `words` are strings of the page */
  constructor(tell, words) {
    this.tell = tell;
    this.words = words;
    this.waiting = 0;
  }

  /** A drag on a pane; the end keeps the box. */
  drag(pane, from, to, done) {
    if (!this.#allowed(pane)) return;
    pane.regions.growing = done ? null : fractions(pane, from, to);
    if (done) this.#add(pane, fractions(pane, from, to));
    pane.draw();
  }

  /** A key while the tool is chosen; true if it meant something. */
  key(event, pane) {
    const arrow = ARROWS[event.key];
    if (event.key === "Backspace" || event.key === "Delete") return this.back(pane);
    if (event.key === "Escape") return this.back(pane, { all: true });
    if (event.key === "Enter" && event.target === pane.root) {
      if (this.#allowed(pane)) this.#add(pane, pane.middleBox());
      return true;
    }
    if (arrow && pane.regions.nudge(...pane.onImage(...arrow), event.shiftKey)) {
      return this.#changed(pane);
    }
    return false;
  }

  /** Take the last region back, or all. */
  back(pane, { all = false } = {}) {
    if (pane.regions.empty) return false;
    if (all) pane.regions.clear();
    else pane.regions.undo();
    return this.#changed(pane);
  }

  /** Fixations of a file. */
  async gaze(pane, file) {
    if (!this.#allowed(pane)) return;
    const fixations = parseGaze(await file.text(), pane.image);
    if (!fixations) {
      pane.say(this.words.bad_gaze);
      return;
    }
    pane.regions.fixations = fixations;
    this.#changed(pane);
  }

  #add(pane, box) {
    if (pane.regions.boxes.length >= MOST) pane.say(this.words.most.replace("{}", MOST));
    else if (pane.regions.add(box)) this.#changed(pane);
  }

  #allowed(pane) {
    if (!pane.drafted) pane.say(this.words.other_image);
    return pane.drafted;
  }

  #changed(pane) {
    pane.say("");
    pane.draw();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.tell(pane.regions.value), REST);
    return true;
  }
}

function fractions({ image }, from, to) {
  const part = ({ x, y }) => ({ x: x / image.width, y: y / image.height });
  return boxOf(part(from), part(to));
}
