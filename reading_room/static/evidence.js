// The evidence under mouse and keys: rule a report out, draft again, use a sentence.

const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

/** Wire the evidence's element. */
export function mount(element, { trigger }) {
  const use = (said) =>
    trigger("act", { op: "use", report: said.dataset.report, number: Number(said.dataset.use) });

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    const said = event.target.closest("[data-use]");
    if (button?.dataset.act === "again") trigger("again", {});
    else if (button?.dataset.act.startsWith("unpoint")) {
      const all = button.dataset.act === "unpoint"; // the viewer holds the regions
      document.dispatchEvent(new CustomEvent("unpoint", { detail: { all } }));
    }
    else if (button) trigger("rule_out", { report: button.dataset.report });
    else if (said && !String(getSelection())) use(said);
  });

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const stops = [...element.querySelectorAll(".card, .said[data-use]")];
    const step = STEPS[event.key];
    if (step && stops.includes(event.target)) {
      stops[stops.indexOf(event.target) + step]?.focus();
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && event.target.matches("[data-use]")) {
      use(event.target);
      event.preventDefault();
    } else if (event.key === "x" && event.target.matches(".card, .said")) {
      event.target.closest(".card").querySelector("[data-act=rule-out]")?.click();
    }
  });
}
