// The list of studies: click or Enter opens one, its button or Alt+0 goes back to the list.

import { moveFocus } from "./move_focus.js";

const LIST_CLASS = "listing"; // of the body while the list is shown and the study hidden

/** Set up the list; `words.ages` are templates such as "{} min ago". */
export function mount(element, { watch, trigger, words }) {
  const buttons = () => [...element.querySelectorAll("tr[data-study] button")];
  let current = ""; // the study that was opened or focused last

  const showList = (show) => {
    document.body.classList.toggle(LIST_CLASS, show);
    for (const side of document.querySelectorAll("#draft, #evidence-side")) side.scrollTop = 0;
    if (!show) setTimeout(() => (document.querySelector("#draft .line[tabindex]") ?? document.querySelector("#draft-it"))?.focus());
    else (element.querySelector(`[data-study="${CSS.escape(current)}"] button`) ?? buttons()[0])?.focus();
  };
  const showAges = () => {
    for (const time of element.querySelectorAll("time")) time.textContent = age(time.dataset.at, words.ages);
  };

  watch("value", () => {
    showAges();
    if (document.body.classList.contains(LIST_CLASS) && document.activeElement === document.body) showList(true);
  });
  element.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-study]");
    if (!row || row.classList.contains("opening")) return;
    row.classList.add("opening");
    setTimeout(() => row.classList.remove("opening"), 10_000); // it could not be opened
    current = row.dataset.study;
    trigger("open_study", { study: current });
  });
  element.addEventListener("keydown", (event) => moveFocus(event, buttons()));
  element.addEventListener("focusin", (event) => {
    current = event.target.closest("tr[data-study]")?.dataset.study ?? current;
  });
  document.addEventListener("showworklist", () => showList(true));
  document.addEventListener("studyopened", () => {
    element.querySelector("tr.opening")?.classList.remove("opening");
    showList(false);
  });
  setInterval(showAges, 20_000);
  showAges();
  showList(true);
}

function age(at, [now, minutes, hours, days]) {
  const minutesAgo = (Date.now() / 1000 - Number(at)) / 60;
  if (minutesAgo < 1) return now;
  if (minutesAgo < 60) return minutes.replace("{}", Math.floor(minutesAgo));
  return minutesAgo < 48 * 60 ? hours.replace("{}", Math.floor(minutesAgo / 60)) : days.replace("{}", Math.floor(minutesAgo / 1440));
}
