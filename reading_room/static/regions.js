// The reader's boxes and fixations, in fractions of the stored image, and the tool that marks them by
// mouse, keys or a gaze file. Changes are sent to the server after a short pause.

import { parseGaze } from "./gaze.js";

const MAX_BOXES = 8; // as in `rag.study`
const MIN_SIDE = 0.01; // of a side
const NUDGE_STEP = 0.02;
const GAZE_SIGMA = 0.055; // of the image's width, as in `encoders.annotations`
const HEAT_RADIUS_SIGMAS = 2.2; // drawn
const MAX_DRAWN_FIXATIONS = 250; // the longest
const DEBOUNCE_MS = 350;
const ARROWS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
};

/** The box between two points, clipped to the image. */
export function boxBetween(a, b) {
  const [left, right] = [a.x, b.x].sort((p, q) => p - q).map(clampToImage);
  const [top, bottom] = [a.y, b.y].sort((p, q) => p - q).map(clampToImage);
  return [left, top, right - left, bottom - top];
}

export class Regions {
  boxes = [];
  fixations = [];
  pending = null; // the box being dragged
  shown = true;

  /** For the server. */
  get value() {
    return { boxes: this.boxes, fixations: this.fixations };
  }

  get empty() {
    return !this.boxes.length && !this.fixations.length;
  }

  /** Add a box, unless it is too small (a click) or one too many; true if it was added. */
  add(box) {
    if (this.boxes.length >= MAX_BOXES || box[2] < MIN_SIDE || box[3] < MIN_SIDE) return false;
    this.boxes = [...this.boxes, box];
    return true;
  }

  /** Move or resize the last box by one step. */
  nudge(across, down, resize) {
    const last = this.boxes.at(-1);
    if (!last) return false;
    const [x, y, w, h] = last;
    const moved = resize
      ? [x, y, clamp(w + across * NUDGE_STEP, MIN_SIDE * 2, 1 - x), clamp(h + down * NUDGE_STEP, MIN_SIDE * 2, 1 - y)]
      : [clamp(x + across * NUDGE_STEP, 0, 1 - w), clamp(y + down * NUDGE_STEP, 0, 1 - h), w, h];
    this.boxes = [...this.boxes.slice(0, -1), moved];
    return true;
  }

  /** Remove the last box, or the fixations if there is no box. */
  removeLast() {
    if (this.boxes.length) this.boxes = this.boxes.slice(0, -1);
    else this.fixations = [];
  }

  clear() {
    this.boxes = [];
    this.fixations = [];
  }

  /** Ellipses of the heatmap: centre and semi-axes in image pixels, and strength from 0 to 1. */
  heatEllipses({ width, height }) {
    const boxes = this.boxes.map(([x, y, w, h]) => ({
      x: (x + w / 2) * width, y: (y + h / 2) * height,
      across: (HEAT_RADIUS_SIGMAS * w * width) / 2, down: (HEAT_RADIUS_SIGMAS * h * height) / 2, strength: 1,
    }));
    const longest = [...this.fixations].sort((a, b) => b[2] - a[2]).slice(0, MAX_DRAWN_FIXATIONS);
    const peak = longest[0]?.[2] ?? 1;
    const radius = HEAT_RADIUS_SIGMAS * GAZE_SIGMA * width;
    const gaze = longest.map(([x, y, seconds]) => ({
      x: x * width, y: y * height, across: radius, down: radius,
      strength: Math.max(seconds / peak / Math.sqrt(longest.length), 0.05),
    }));
    return [...boxes, ...gaze];
  }
}

export class RegionTool {
  /** @param send sends regions to the server; @param words strings of the page */
  constructor(send, words) {
    this.send = send;
    this.words = words;
    this.timer = 0;
  }

  /** Draw a box by dragging; it is added when the drag is `done`. */
  drag(pane, from, to, done) {
    if (!this.#canMark(pane)) return;
    pane.regions.pending = done ? null : boxOnImage(pane, from, to);
    if (done) this.#add(pane, boxOnImage(pane, from, to));
    pane.draw();
  }

  /** Handle a key while the tool is active; true if it was handled. */
  handleKey(event, pane) {
    const arrow = ARROWS[event.key];
    if (event.key === "Backspace" || event.key === "Delete") return this.remove(pane);
    if (event.key === "Escape") return this.remove(pane, { all: true });
    if (event.key === "Enter" && event.target === pane.root) {
      if (this.#canMark(pane)) this.#add(pane, pane.centreBox());
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
    else pane.regions.removeLast();
    return this.#changed(pane);
  }

  /** Load fixations from a CSV file. */
  async loadGaze(pane, file) {
    if (!this.#canMark(pane)) return;
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

  #canMark(pane) {
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

function boxOnImage({ image }, from, to) {
  const fraction = ({ x, y }) => ({ x: x / image.width, y: y / image.height });
  return boxBetween(fraction(from), fraction(to));
}

function clampToImage(value) {
  return clamp(value, 0, 1);
}

function clamp(value, min, max) {
  return Math.min(Math.max(value, min), max);
}
