// The viewer: toolbar, panes, pointers and keys. Images are fetched once, as they are stored.

import { readImage } from "./image.js";
import { Pane } from "./pane.js";
import { RegionTool } from "./regions.js";

const KEYS = {
  i: "invert", r: "reset", f: "fit", o: "one", "+": "in", "=": "in", "-": "out",
  "[": "left", "]": "right", h: "mirror", "1": "file", "2": "whole", "3": "lungs",
  "4": "mediastinum", s: "solo", w: "tool-window", p: "tool-pan", z: "tool-zoom", m: "tool-measure",
  b: "tool-region", v: "heat", g: "gaze", l: "findings",
  Escape: "clear", ArrowUp: "brighter", ArrowDown: "darker", ArrowLeft: "moreContrast",
  ArrowRight: "lessContrast",
};
const NUDGE = 12;

/** Wire the viewer's element; `watch` and `props` are those of Gradio's HTML component. */
export function mount(element, { props, watch, trigger, words }) {
  const viewer = new Viewer(element.querySelector(".viewer"), words, trigger);
  watch("value", () => viewer.show(props.value ?? []));
  viewer.show(props.value ?? []);
  return viewer;
}

class Viewer {
  constructor(root, words, trigger) {
    this.root = root;
    this.words = words;
    this.trigger = trigger;
    this.container = root.querySelector(".panes");
    this.template = root.querySelector("template");
    this.panes = [];
    this.active = null;
    this.tool = "window";
    this.solo = false;
    this.generation = 0;
    this.regionTool = new RegionTool((value) => trigger("set_region", value), words);
    this.findings = []; // of the sentence that was looked at last
    this.findingsShown = true;
    this.gaze = root.querySelector("input[type=file]");
    this.gaze.addEventListener("change", () => {
      const [file] = this.gaze.files;
      if (file && this.drafted) this.regionTool.loadGaze(this.drafted, file);
      this.gaze.value = "";
    });
    document.addEventListener("removeregion", ({ detail }) => {
      if (this.drafted) this.regionTool.remove(this.drafted, detail);
    });
    document.addEventListener("showfindings", ({ detail }) => {
      this.findings = detail;
      this.#showFindings();
    });
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-do]");
      if (button) this.run(button.dataset.do);
    });
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("rendered", () => this.#updateButtons());
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      root.addEventListener(kind, (event) => this.#dropped(event));
    }
    this.#updateButtons();
  }

  /** Show these images, as `viewer_value` describes them; an empty list clears the viewer. */
  async show(images) {
    const keys = images.map((image) => image.key).join();
    if (images.length && keys === this.keys) {
      if (this.panes.length) this.#loadFull(images, this.generation);
      else this.pendingFull = images; // the preview is still loading
      return;
    }
    const generation = ++this.generation;
    this.pendingFull = null;
    this.keys = keys;
    for (const pane of this.panes) pane.dispose();
    this.panes = [];
    this.active = null;
    this.container.replaceChildren();
    this.root.dataset.state = images.length ? "loading" : "empty";
    try {
      const loaded = await Promise.all(images.map((image) => fetchImage(image.url)));
      if (generation !== this.generation) return; // other images were opened meanwhile
      this.panes = loaded.map((image, i) => this.#pane(image, images[i], images.length > 1));
      if (this.pendingFull) this.#loadFull(this.pendingFull, generation);
      this.pendingFull = null;
      this.#activate(this.panes[0] ?? null);
      this.root.dataset.state = images.length ? "shown" : "empty";
    } catch (error) {
      if (generation !== this.generation) return;
      this.root.dataset.state = "failed";
      console.error(error);
    }
  }

  /** The same images, now with all their pixels. */
  async #loadFull(images, generation) {
    try {
      const loaded = await Promise.all(images.map((image) => fetchImage(image.url)));
      if (generation === this.generation) this.panes.forEach((pane, i) => pane.replaceImage(loaded[i]));
    } catch (error) {
      console.error(error); // the preview stays, and says so
    }
  }

  /** The pane whose image the draft is made from. */
  get drafted() {
    return this.panes.find((pane) => pane.drafted);
  }

  run(command) {
    if (command.startsWith("tool-")) {
      this.tool = command.slice(5);
      this.#updateButtons();
      return true;
    }
    const pane = this.active;
    if (!pane) return false;
    if (command === "findings") {
      this.findingsShown = !this.findingsShown;
      this.#showFindings();
      this.#updateButtons();
      return true;
    }
    if (command === "solo") {
      this.solo = !this.solo;
      this.#updateButtons();
      return true;
    }
    const commands = {
      invert: () => pane.invert(), reset: () => pane.reset(), fit: () => pane.fit(),
      one: () => pane.oneToOne(), in: () => pane.zoom(1.25), out: () => pane.zoom(0.8),
      left: () => pane.turn(-1), right: () => pane.turn(1), mirror: () => pane.mirror(),
      clear: () => pane.clearLines(), heat: () => pane.toggleHeat(),
      gaze: () => this.gaze.click(), brighter: () => pane.drag(0, -NUDGE),
      darker: () => pane.drag(0, NUDGE), moreContrast: () => pane.drag(-NUDGE, 0),
      lessContrast: () => pane.drag(NUDGE, 0),
    };
    if (commands[command]) commands[command]();
    else pane.usePreset(command);
    this.#updateButtons();
    return true;
  }

  #showFindings() {
    this.drafted?.showFindings(this.findingsShown ? this.findings : []);
  }

  #pane(image, about, several) {
    const root = this.template.content.firstElementChild.cloneNode(true);
    root.setAttribute("aria-label", about.label);
    root.querySelector(".corner-name").textContent = about.name;
    root.querySelector(".corner-spacing").textContent = about.spacing_note;
    root.querySelector(".corner-warnings").textContent = about.warnings.join("\n");
    root.querySelector(".drafted").hidden = !(about.drafted && several);
    this.container.append(root);
    const pane = new Pane(root, image, this.words, about.drafted);
    root.addEventListener("pointerdown", (event) => this.#press(event, pane));
    root.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#activate(pane);
      pane.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), pane.placeOf(event));
    }, { passive: false });
    root.addEventListener("dblclick", (event) => {
      if (!["measure", "region"].includes(this.tool)) pane.whole ? pane.oneToOne(pane.placeOf(event)) : pane.fit();
    });
    root.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("focus", () => this.#activate(pane));
    return pane;
  }

  /** A drag with the tool; the middle button always pans, the right one always sets the window. */
  #press(event, pane) {
    const tool = { 1: "pan", 2: "window" }[event.button] ?? (event.shiftKey ? "pan" : this.tool);
    const root = pane.root;
    root.focus({ preventScroll: true });
    root.setPointerCapture(event.pointerId);
    event.preventDefault();
    const start = pane.pointOf(event);
    const anchor = pane.placeOf(event);
    let last = anchor;
    const move = (moved) => {
      const here = pane.placeOf(moved);
      const [dx, dy] = [here.x - last.x, here.y - last.y];
      last = here;
      if (tool === "pan") pane.pan(dx, dy);
      else if (tool === "zoom") pane.zoom(Math.exp(-dy / 200), anchor);
      else if (tool === "measure") pane.measure(start, pane.pointOf(moved));
      else if (tool === "region") this.regionTool.drag(pane, start, pane.pointOf(moved));
      else pane.drag(dx, dy);
    };
    const end = (ended) => {
      root.removeEventListener("pointermove", move);
      if (tool === "measure") pane.measure(start, pane.pointOf(ended), true);
      if (tool === "region") this.regionTool.drag(pane, start, pane.pointOf(ended), true);
    };
    root.addEventListener("pointermove", move);
    root.addEventListener("pointerup", end, { once: true });
    root.addEventListener("pointercancel", end, { once: true });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (event.target.matches("button") && event.key.startsWith("Arrow")) return;
    if (this.tool === "region" && this.active && this.regionTool.key(event, this.active)) {
      event.preventDefault();
      return;
    }
    const command = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    if (command && this.run(command)) event.preventDefault();
  }

  #activate(pane) {
    this.active = pane;
    this.#updateButtons();
  }

  /** Show which tools and switches are on. */
  #updateButtons() {
    for (const button of this.root.querySelectorAll("button[data-do]")) {
      const command = button.dataset.do;
      const on = command === `tool-${this.tool}` || (this.active && command === this.active.preset) ||
        (command === "invert" && this.active?.negative) ||
        (command === "mirror" && this.active?.viewport.mirror) || (command === "solo" && this.solo) ||
        (command === "heat" && this.active?.regions.shown) ||
        (command === "findings" && this.findingsShown);
      if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", String(!!on));
      button.disabled = !this.active && !command.startsWith("tool-");
    }
    for (const pane of this.panes) {
      pane.root.classList.toggle("active", pane === this.active);
      pane.root.hidden = this.solo && pane !== this.active;
    }
    this.root.dataset.tool = this.tool;
  }

  /** Images dropped on the viewer are put into the page's file field. */
  #dropped(event) {
    event.preventDefault();
    this.root.classList.toggle("drop-target", event.type === "dragenter" || event.type === "dragover");
    if (event.type !== "drop" || !event.dataTransfer.files.length) return;
    const field = document.querySelector("#upload input[type=file]");
    field.files = event.dataTransfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

async function fetchImage(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`image: ${answer.status}`);
  return readImage(await answer.arrayBuffer());
}
