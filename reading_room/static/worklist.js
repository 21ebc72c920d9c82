// The list of studies: opens one by click or Enter, comes back by its button or Alt+0.

import { stepped } from "./steps.js";

const LIST = "listing"; // class of the body while the list is shown and the study hidden

/** Wire the list's element; `words.ages` are those of "5 min ago". */
export function mount(element, { watch, trigger, words }) {
  const buttons = () => [...element.querySelectorAll("tr[data-study] button")];
  let current = ""; // the study that was opened last, or has the focus

  const show = (listed) => {
    document.body.classList.toggle(LIST, listed);
    for (const side of document.querySelectorAll("#draft, #evidence-side")) side.scrollTop = 0;
    if (!listed) setTimeout(() => (document.querySelector("#draft .line[tabindex]") ?? document.querySelector("#draft-it"))?.focus());
    else (element.querySelector(`[data-study="${CSS.escape(current)}"] button`) ?? buttons()[0])?.focus();
  };
  const tell = () => {
    for (const time of element.querySelectorAll("time")) time.textContent = age(time.dataset.at, words.ages);
  };

  watch("value", () => {
    tell();
    if (document.body.classList.contains(LIST) && document.activeElement === document.body) show(true);
  });
  element.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-study]");
    if (!row || row.classList.contains("opening")) return;
    row.classList.add("opening");
    setTimeout(() => row.classList.remove("opening"), 10_000); // if it could not be opened
    current = row.dataset.study;
    trigger("open_study", { study: current });
  });
  element.addEventListener("keydown", (event) => stepped(event, buttons()));
  element.addEventListener("focusin", (event) => {
    current = event.target.closest("tr[data-study]")?.dataset.study ?? current;
  });
  document.addEventListener("showworklist", () => show(true));
  document.addEventListener("studyopened", () => {
    element.querySelector("tr.opening")?.classList.remove("opening");
    show(false);
  });
  setInterval(tell, 20_000);
  tell();
  show(true);
}

function age(at, [now, minutes, hours, days]) {
  const passed = (Date.now() / 1000 - Number(at)) / 60;
  if (passed < 1) return now;
  if (passed < 60) return minutes.replace("{}", Math.floor(passed));
  return passed < 48 * 60 ? hours.replace("{}", Math.floor(passed / 60)) : days.replace("{}", Math.floor(passed / 1440));
}
