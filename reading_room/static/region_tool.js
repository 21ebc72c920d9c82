// Marking regions with mouse, keys or a gaze file; changes are sent to the server after a short pause.

import { parseGaze } from "./gaze.js";
import { MAX_BOXES, boxOf } from "./regions.js";

const DEBOUNCE_MS = 350;
const ARROWS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
};

export class RegionTool {
  /** @param send receives the regions for the server; `words` are strings of the page */
  constructor(send, words) {
    this.send = send;
    this.words = words;
    this.timer = 0;
  }

  /** A drag on a pane; the box is kept when it is `done`. */
  drag(pane, from, to, done) {
    if (!this.#allowed(pane)) return;
    pane.regions.pending = done ? null : fractions(pane, from, to);
    if (done) this.#add(pane, fractions(pane, from, to));
    pane.draw();
  }

  /** A key while the tool is active; true if it was handled. */
  key(event, pane) {
    const arrow = ARROWS[event.key];
    if (event.key === "Backspace" || event.key === "Delete") return this.remove(pane);
    if (event.key === "Escape") return this.remove(pane, { all: true });
    if (event.key === "Enter" && event.target === pane.root) {
      if (this.#allowed(pane)) this.#add(pane, pane.middleBox());
      return true;
    }
    if (arrow && pane.regions.nudge(...pane.toImageDirection(...arrow), event.shiftKey)) {
      return this.#changed(pane);
    }
    return false;
  }

  /** Remove the last region, or all. */
  remove(pane, { all = false } = {}) {
    if (pane.regions.empty) return false;
    if (all) pane.regions.clear();
    else pane.regions.undo();
    return this.#changed(pane);
  }

  /** Show the fixations of a CSV file. */
  async loadGaze(pane, file) {
    if (!this.#allowed(pane)) return;
    const fixations = parseGaze(await file.text(), pane.image);
    if (!fixations) {
      pane.showMessage(this.words.bad_gaze);
      return;
    }
    pane.regions.fixations = fixations;
    this.#changed(pane);
  }

  #add(pane, box) {
    if (pane.regions.boxes.length >= MAX_BOXES) pane.showMessage(this.words.max_regions.replace("{}", MAX_BOXES));
    else if (pane.regions.add(box)) this.#changed(pane);
  }

  #allowed(pane) {
    if (!pane.drafted) pane.showMessage(this.words.other_image);
    return pane.drafted;
  }

  #changed(pane) {
    pane.showMessage("");
    pane.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(pane.regions.value), DEBOUNCE_MS);
    return true;
  }
}

function fractions({ image }, from, to) {
  const part = ({ x, y }) => ({ x: x / image.width, y: y / image.height });
  return boxOf(part(from), part(to));
}
