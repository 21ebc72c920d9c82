// One image on the page: its canvas, its marks, and what is done to it. Asks the server nothing.

import { pyramid } from "./image.js";
import { dragged, histogram, ownTable, presetWindow, tableOf } from "./voi_lut.js";
import { coloursOf, paint } from "./canvas_renderer.js";
import { fitted, mirrored, panned, toImage, toScreen, turned, zoomed } from "./viewport.js";
import { Regions, boxOf } from "./regions.js";
import { lengthText, ratioText, scaleBar } from "./ruler.js";
import { regionMarks } from "./region_overlay.js";
import { svg } from "./svg.js";

const MOST_PIXELS = 8192; // a side of the canvas, whatever the page's layout does
const COUNTED = 1_000_000; // pixels are enough for the presets of a large image

let made = 0;

export class Pane {
  /**
   * @param root element with a canvas, an svg and the corner texts of `image_panel.py`
   * @param image what `readImage` returned
   * @param words strings of the page
   * @param drafted whether the draft is made from it, so that a region on it means something
   */
  constructor(root, image, words, drafted = true) {
    this.root = root;
    this.words = words;
    this.drafted = drafted;
    this.regions = new Regions();
    this.name = `heat-${++made}`;
    this.#take(image);
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.marks = root.querySelector("svg");
    this.lines = [];
    this.draft = null; // the line that is being drawn
    this.asked = false;
    this.resized = new ResizeObserver(() => this.#measure());
    this.resized.observe(root);
    this.reset();
    this.#measure();
  }

  /** All pixels in place of a first look; pose, window and marks stay. */
  sharpen(image) {
    this.#take(image);
    if (["file", ""].includes(this.preset)) this.#recolour();
    else this.use(this.preset);
  }

  #take(image) {
    this.image = image;
    this.levels = pyramid(image);
    this.counts = histogram(image, Math.max(1, Math.floor(image.codes.length / COUNTED)));
    this.root.dataset.whole = String(image.stored[1] === image.width);
  }

  dispose() {
    this.resized.disconnect();
  }

  /** As it was opened: the file's own grey scale, upright, whole. */
  reset() {
    this.window = null; // the image's own table
    this.negative = false;
    this.lines = [];
    this.preset = "file";
    this.#recolour();
    this.fit({ turn: 0, mirror: false });
  }

  fit(changes = {}) {
    this.pose = fitted(this.image, this.#screen(), { ...this.pose, ...changes });
    this.whole = true;
    this.draw();
  }

  /** One image pixel a screen pixel, about a point of the screen. */
  oneToOne(at = this.#middle()) {
    this.zoom(1 / this.pose.scale, at);
  }

  zoom(factor, at = this.#middle()) {
    this.pose = zoomed(this.pose, this.#screen(), at, factor);
    this.whole = false;
    this.draw();
  }

  pan(dx, dy) {
    this.pose = panned(this.pose, this.#screen(), dx, dy, this.image);
    this.whole = false;
    this.draw();
  }

  turn(quarters) {
    this.pose = turned(this.pose, quarters);
    if (this.whole) this.fit();
    this.draw();
  }

  mirror() {
    this.pose = mirrored(this.pose);
    this.draw();
  }

  invert() {
    this.negative = !this.negative;
    this.#recolour();
  }

  use(preset) {
    this.preset = preset;
    this.window = preset === "file" ? null : presetWindow(preset, this.counts, this.image);
    this.#recolour();
  }

  /** Window and level after a drag of so many screen pixels. */
  drag(dx, dy) {
    this.preset = "";
    this.window = dragged(this.window ?? this.image.window, dx, dy, {
      invert: this.image.invert,
      negative: this.negative,
      least: Math.abs(this.image.slope),
      reach: 600 * devicePixelRatio,
    });
    this.#recolour();
  }

  /** Image point of a pointer event. */
  pointOf(event) {
    return toImage(this.pose, this.#screen(), this.placeOf(event));
  }

  /** Screen point of a pointer event, in device pixels of this canvas. */
  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const k = this.canvas.width / box.width || 1;
    return { x: (event.clientX - box.left) * k, y: (event.clientY - box.top) * k };
  }

  /** A line that follows the pointer; `done` keeps it unless it is a mere click. */
  measure(from, to, done = false) {
    this.draft = done ? null : { from, to };
    if (done && Math.hypot(to.x - from.x, to.y - from.y) > 2) {
      this.lines = [...this.lines, { from, to }].slice(-6);
    }
    this.draw();
  }

  /** A box in the middle of what is seen, for who has no mouse: fractions of the image. */
  middleBox() {
    const { width, height } = this.#screen();
    const [a, b] = [3 / 8, 5 / 8].map((share) =>
      toImage(this.pose, this.#screen(), { x: share * width, y: share * height }));
    return boxOf(...[a, b].map(({ x, y }) => ({ x: x / this.image.width, y: y / this.image.height })));
  }

  /** A direction on the screen as one on the image, whatever its pose. */
  onImage(across, down) {
    const from = toImage(this.pose, this.#screen(), { x: 0, y: 0 });
    const to = toImage(this.pose, this.#screen(), { x: across, y: down });
    return [Math.sign(Math.round((to.x - from.x) * 1e6)), Math.sign(Math.round((to.y - from.y) * 1e6))];
  }

  /** A word to the reader about pointing. */
  say(text) {
    this.#put("region", text);
  }

  toggleHeat() {
    this.regions.shown = !this.regions.shown;
    this.draw();
  }

  clearMarks() {
    this.lines = [];
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.#paint();
    });
  }

  #recolour() {
    const table = this.window
      ? tableOf(this.window, this.image, this.negative)
      : ownTable(this.image.table, this.negative);
    this.colours = coloursOf(table);
    this.draw();
  }

  #measure() {
    const box = this.root.getBoundingClientRect();
    const side = (length) => Math.min(Math.max(1, Math.round(length * devicePixelRatio)), MOST_PIXELS);
    const [width, height] = [side(box.width), side(box.height)];
    if (width === this.canvas.width && height === this.canvas.height && this.bitmap) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.bitmap = this.context.createImageData(width, height);
    if (this.whole) this.fit();
    this.draw();
  }

  #screen() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  #middle() {
    return { x: this.canvas.width / 2, y: this.canvas.height / 2 };
  }

  #paint() {
    const pixels = new Uint32Array(this.bitmap.data.buffer);
    paint(pixels, this.#screen(), this, this.pose, this.colours);
    this.context.putImageData(this.bitmap, 0, 0);
    this.#drawMarks();
    this.#say();
  }

  #drawMarks() {
    this.marks.setAttribute("viewBox", `0 0 ${this.canvas.width} ${this.canvas.height}`);
    const lines = this.draft ? [...this.lines, this.draft] : this.lines;
    const ratio = ratioText(this.lines, this.image.spacing);
    const texts = lines.map((line) => lengthText(line, this.image.spacing));
    if (ratio && !this.draft) texts[1] += `  ·  ${this.words.ratio} ${ratio}`;
    const { image, pose, name } = this;
    this.marks.replaceChildren(
      ...regionMarks(this.regions, { image, pose, screen: this.#screen(), name }),
      ...lines.flatMap((line, i) => this.#mark(line, texts[i])),
    );
  }

  #mark({ from, to }, words) {
    const a = toScreen(this.pose, this.#screen(), from);
    const b = toScreen(this.pose, this.#screen(), to);
    const line = svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y });
    const size = 14 * devicePixelRatio;
    const text = svg("text", { x: b.x + size / 2, y: b.y - size / 2, "font-size": size });
    text.textContent = words;
    return [line, text];
  }

  #say() {
    const { image, pose, words } = this;
    const window = this.window ?? image.window;
    const k = devicePixelRatio;
    this.#put("grey", this.preset === "file" && image.lut
      ? words.lut
      : `${words.window} ${round(window.width)}  ${words.level} ${round(window.centre)}`);
    const whole = this.root.dataset.whole === "true";
    this.#put("zoom", `${Math.round(100 * pose.scale)} %${whole ? "" : ` · ${words.first_look}`}`);
    const turns = [];
    if (pose.mirror) turns.push(words.mirrored);
    if (pose.turn) turns.push(words.turned.replace("{}", String(90 * pose.turn)));
    if (this.negative) turns.push(words.negative);
    this.#put("turned", turns.join(" · "));
    const bar = scaleBar(image.spacing, pose.scale, this.canvas.width / 3);
    const ruler = this.root.querySelector(".scale-bar");
    ruler.hidden = !bar;
    if (bar) {
      ruler.style.width = `${bar.pixels / k}px`;
      ruler.textContent = bar.length >= 10 ? `${bar.length / 10} cm` : `${bar.length} mm`;
    }
    const seen = this.root.dataset;
    seen.width = window.width;
    seen.centre = window.centre;
    seen.scale = pose.scale;
    seen.preset = this.preset;
    this.root.dispatchEvent(new CustomEvent("seen", { bubbles: true }));
  }

  #put(name, text) {
    const place = this.root.querySelector(`.say-${name}`);
    if (place.textContent !== text) place.textContent = text;
  }
}

function round(value) {
  return Math.abs(value) < 100 ? Number(value.toFixed(1)) : Math.round(value);
}
