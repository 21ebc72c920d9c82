// The reader's boxes and fixations on an image, as fractions of the stored image, and the tool that
// marks them with mouse, keys or a gaze file; changes are sent to the server after a short pause.

import { parseGaze } from "./gaze.js";

const MAX_BOXES = 8; // boxes, as `rag.study` allows
const MIN_SIDE = 0.01; // of a side
const STEP = 0.02;
const GAZE_SIGMA = 0.055; // of the image's width, as in `encoders.annotations`
const DRAWN_SIGMAS = 2.2; // standard deviations that are drawn
const MAX_DRAWN = 250; // fixations that are drawn, the longest first
const DEBOUNCE_MS = 350;
const ARROWS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
};

/** The box between two points of the image, cut to it. */
export function boxOf(a, b) {
  const [left, right] = [a.x, b.x].sort((p, q) => p - q).map(clampToImage);
  const [top, bottom] = [a.y, b.y].sort((p, q) => p - q).map(clampToImage);
  return [left, top, right - left, bottom - top];
}

export class Regions {
  boxes = [];
  fixations = [];
  pending = null; // the box being dragged
  shown = true;

  /** What the server is asked with. */
  get value() {
    return { boxes: this.boxes, fixations: this.fixations };
  }

  get empty() {
    return !this.boxes.length && !this.fixations.length;
  }

  /** Keep a box, unless it is a mere click or one too many; true if it was kept. */
  add(box) {
    if (this.boxes.length >= MAX_BOXES || box[2] < MIN_SIDE || box[3] < MIN_SIDE) return false;
    this.boxes = [...this.boxes, box];
    return true;
  }

  /** Move the last box by steps, or let it grow by them. */
  nudge(across, down, grow) {
    const last = this.boxes.at(-1);
    if (!last) return false;
    const [x, y, w, h] = last;
    const moved = grow
      ? [x, y, clamp(w + across * STEP, MIN_SIDE * 2, 1 - x), clamp(h + down * STEP, MIN_SIDE * 2, 1 - y)]
      : [clamp(x + across * STEP, 0, 1 - w), clamp(y + down * STEP, 0, 1 - h), w, h];
    this.boxes = [...this.boxes.slice(0, -1), moved];
    return true;
  }

  /** Take the last back: a box, or where there is none the gaze. */
  undo() {
    if (this.boxes.length) this.boxes = this.boxes.slice(0, -1);
    else this.fixations = [];
  }

  clear() {
    this.boxes = [];
    this.fixations = [];
  }

  /** Ellipses of the heatmap: centre and half axes in image pixels, and how strong, 0 to 1. */
  heatEllipses({ width, height }) {
    const boxes = this.boxes.map(([x, y, w, h]) => ({
      x: (x + w / 2) * width, y: (y + h / 2) * height,
      across: (DRAWN_SIGMAS * w * width) / 2, down: (DRAWN_SIGMAS * h * height) / 2, strength: 1,
    }));
    const longest = [...this.fixations].sort((a, b) => b[2] - a[2]).slice(0, MAX_DRAWN);
    const peak = longest[0]?.[2] ?? 1;
    const radius = DRAWN_SIGMAS * GAZE_SIGMA * width;
    const gaze = longest.map(([x, y, seconds]) => ({
      x: x * width, y: y * height, across: radius, down: radius,
      strength: Math.max(seconds / peak / Math.sqrt(longest.length), 0.05),
    }));
    return [...boxes, ...gaze];
  }
}

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

function clampToImage(value) {
  return clamp(value, 0, 1);
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
