// The viewer: toolbar, panes, pointers and keys. Images are fetched once, as they are stored.

import { readImage } from "./image.js";
import { Pane } from "./pane.js";
import { RegionTool } from "./regions.js";

const KEYS = { // beside those of the buttons
  "=": "in", Escape: "clear", ArrowUp: "brighter", ArrowDown: "darker", ArrowLeft: "moreContrast",
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
    this.linked = true; // prior and current move together
    this.priorShown = true;
    this.generation = 0;
    this.regionTool = new RegionTool((value) => trigger("set_region", value), words);
    this.findings = []; // of the sentence that was looked at last
    this.findingsShown = true;
    this.commands = { ...KEYS };
    for (const button of root.querySelectorAll("button[data-do]")) {
      this.commands[button.getAttribute("aria-keyshortcuts").toLowerCase()] = button.dataset.do;
    }
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
      const several = images.filter((each) => !each.prior).length > 1;
      this.panes = loaded.map((image, i) => this.#pane(image, images[i], several));
      this.root.toggleAttribute("data-prior", images.some((each) => each.prior));
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
    const switches = { findings: "findingsShown", solo: "solo", link: "linked", prior: "priorShown" };
    const own = {
      left: () => pane.turn(-1), right: () => pane.turn(1), mirror: () => pane.mirror(),
      clear: () => pane.clearLines(), heat: () => pane.toggleHeat(), gaze: () => this.gaze.click(),
    };
    const together = {
      invert: (each) => each.invert(), reset: (each) => each.reset(), fit: (each) => each.fit(),
      one: (each) => each.oneToOne(), in: (each) => each.zoom(1.25), out: (each) => each.zoom(0.8),
      brighter: (each) => each.drag(0, -NUDGE), darker: (each) => each.drag(0, NUDGE),
      moreContrast: (each) => each.drag(-NUDGE, 0), lessContrast: (each) => each.drag(NUDGE, 0),
    };
    if (switches[command]) {
      this[switches[command]] = !this[switches[command]];
      this.#showFindings();
    } else if (own[command]) own[command]();
    else this.#linked(pane).forEach(together[command] ?? ((each) => each.usePreset(command)));
    this.#updateButtons();
    return true;
  }

  /** The pane, and what moves with it: the same view of the prior, or of the current study. */
  #linked(pane) {
    if (!this.linked || !this.priorShown || !this.root.hasAttribute("data-prior")) return [pane];
    return this.panes.filter((each) => each === pane || each.link === pane.link);
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
    root.classList.toggle("prior", about.prior);
    this.container.append(root);
    const pane = new Pane(root, image, this.words, about.drafted);
    Object.assign(pane, { link: about.link, prior: about.prior });
    Object.assign(pane.regions, about.region); // as they were marked, where the study is opened again
    root.addEventListener("pointerdown", (event) => this.#press(event, pane));
    root.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#activate(pane);
      const [factor, at] = [Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), pane.placeOf(event)];
      for (const each of this.#linked(pane)) each.zoom(factor, at);
    }, { passive: false });
    root.addEventListener("dblclick", (event) => {
      if (["measure", "region"].includes(this.tool)) return;
      const [whole, at] = [pane.whole, pane.placeOf(event)];
      for (const each of this.#linked(pane)) whole ? each.oneToOne(at) : each.fit();
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
    const linked = this.#linked(pane);
    const move = (moved) => {
      const here = pane.placeOf(moved);
      const [dx, dy] = [here.x - last.x, here.y - last.y];
      last = here;
      if (tool === "pan") linked.forEach((each) => each.pan(dx, dy));
      else if (tool === "zoom") linked.forEach((each) => each.zoom(Math.exp(-dy / 200), anchor));
      else if (tool === "measure") pane.measure(start, pane.pointOf(moved));
      else if (tool === "region") this.regionTool.drag(pane, start, pane.pointOf(moved));
      else linked.forEach((each) => each.drag(dx, dy));
    };
    const dragging = new AbortController();
    const end = (ended) => {
      dragging.abort();
      if (tool === "measure") pane.measure(start, pane.pointOf(ended), true);
      if (tool === "region") this.regionTool.drag(pane, start, pane.pointOf(ended), true);
    };
    const { signal } = dragging;
    root.addEventListener("pointermove", move, { signal });
    root.addEventListener("pointerup", end, { signal });
    root.addEventListener("pointercancel", end, { signal });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (event.target.matches("button") && event.key.startsWith("Arrow")) return;
    if (this.tool === "region" && this.active && this.regionTool.key(event, this.active)) {
      event.preventDefault();
      return;
    }
    const command = this.commands[event.key] ?? this.commands[event.key.toLowerCase()];
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
        (command === "findings" && this.findingsShown) ||
        (command === "link" && this.linked) || (command === "prior" && this.priorShown);
      if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", String(!!on));
      button.disabled = !this.active && !command.startsWith("tool-");
    }
    for (const pane of this.panes) {
      pane.root.classList.toggle("active", pane === this.active);
      pane.root.hidden = (this.solo && pane !== this.active) || (pane.prior && !this.priorShown);
    }
    this.container.classList.toggle("many", this.panes.filter((pane) => !pane.root.hidden).length > 2);
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
