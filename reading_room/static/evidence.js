// Mouse and keys in the evidence: rule out a report, redraft, use a sentence.

import { stepped } from "./steps.js";

const REMOVE = { "undo-region": { all: false }, "clear-regions": { all: true } };

/** Wire the evidence's element. */
export function mount(element, { trigger }) {
  const use = (sentence) =>
    trigger("act", { op: "use", report: sentence.dataset.report, number: Number(sentence.dataset.use) });

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    const sentence = event.target.closest("[data-use]");
    if (button?.dataset.act === "redraft") trigger("redraft", {});
    else if (REMOVE[button?.dataset.act]) {
      // the viewer holds the regions
      document.dispatchEvent(new CustomEvent("removeregion", { detail: REMOVE[button.dataset.act] }));
    } else if (button) trigger("act", { op: "rule-out", report: button.dataset.report });
    else if (sentence && !String(getSelection())) use(sentence);
  });

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const stops = [...element.querySelectorAll(".card, .sentence[data-use]")];
    if (stepped(event, stops)) return;
    if ((event.key === "Enter" || event.key === " ") && event.target.matches("[data-use]")) {
      use(event.target);
      event.preventDefault();
    } else if (event.key === "x" && event.target.matches(".card, .sentence")) {
      event.target.closest(".card").querySelector("[data-act=rule-out]")?.click();
    }
  });
}
