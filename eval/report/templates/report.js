"use strict";
// The browser of single studies: a list, worst first, and one study in full. Report text goes into
// text nodes only, never into markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const [run, order, filter, search, list, study, count] =
    ["run", "order", "filter", "search", "list", "study", "count"].map(byId);
  let shown = [], current = 0;

  const element = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  const words = (text) => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || []);
  const system = () => data.runs[run.selectedIndex];
  const score = (item, measure) => item.scores[system().name][measure];

  // Marks the words that the other text does not contain.
  const markWords = (text, other, kind) => {
    if (!other) return text;
    const otherWords = words(other), fragment = document.createDocumentFragment();
    for (const part of text.split(/([\p{L}\p{N}]+)/u)) {
      const isMissing = /[\p{L}\p{N}]/u.test(part) && !otherWords.has(part.toLowerCase());
      fragment.append(isMissing ? element("mark", { class: kind }, part) : part);
    }
    return fragment;
  };

  // Denying a finding and not mentioning it is no disagreement.
  const isPresent = (state) => state === "positive" || state === "uncertain";
  const differs = (labels, name) => labels.reference[name] !== labels.draft[name] &&
    (isPresent(labels.reference[name]) || isPresent(labels.draft[name]));
  const labelNames = (labels) => Object.keys({ ...labels.reference, ...labels.draft });

  const chips = (labels) => labelNames(labels).map((name) => {
    const truth = labels.reference[name], said = labels.draft[name];
    const words =
      truth === said ? truth
      : said === undefined ? `${truth}, not in the draft`
      : truth === undefined ? `${said}, not in the reference`
      : `${truth}, draft says ${said}`;
    const kind = differs(labels, name) ? (isPresent(said) ? "invented" : "missed")
      : isPresent(truth) ? "hit" : "";
    return element("span", { class: `chip ${kind}` }, element("b", {}, name), ` ${words}`);
  });

  const highlightEvidence = (ids, on) => {
    for (const item of study.querySelectorAll(".evidence li"))
      if (ids.includes(item.dataset.report)) item.classList.toggle("lit", on);
  };

  const draftElement = (item) => {
    if (!item.draft) return element("p", { class: "text" }, "No draft.");
    if (!item.sentences.length)
      return element("div", { class: "text" }, markWords(item.draft, item.reference, "extra"));
    const sentences = item.sentences.map((sentence) =>
      element("span", {
        onmouseenter: () => highlightEvidence(sentence.sources, true),
        onmouseleave: () => highlightEvidence(sentence.sources, false),
      }, markWords(sentence.text, item.reference, "extra"),
      ...sentence.sources.map((id) => element("a", { class: "cite" }, `[${id}]`)), " "));
    return element("div", { class: "text" }, ...sentences);
  };

  const scoreTable = (item) => {
    const systems = Object.keys(item.scores);
    const rows = system().measures.map((measure) => element("tr", {}, element("th", { scope: "row" }, measure),
      ...systems.map((name) => element("td", {}, number(item.scores[name][measure])))));
    return element("table", { class: "scores" },
      element("thead", {}, element("tr", {}, element("th", {}, ""), ...systems.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows));
  };

  const show = (index) => {
    current = Math.max(0, Math.min(index, shown.length - 1));
    [...list.children].forEach((node, i) => node.setAttribute("aria-current", i === current));
    const selected = list.children[current];
    if (selected) { // scrolls the list only, not the page
      const top = selected.offsetTop - list.offsetTop;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + selected.offsetHeight > list.scrollTop + list.clientHeight)
        list.scrollTop = top + selected.offsetHeight - list.clientHeight;
    }
    const item = shown[current];
    if (!item) { study.replaceChildren(element("p", {}, "No study matches.")); return; }
    const cited = new Set(item.sentences.flatMap((sentence) => sentence.sources));
    const tags = [item.normal ? "normal reference" : "abnormal reference"];
    if (item.text_in_train) tags.push("text also in train");
    if (item.confidence !== null) tags.push(`confidence ${number(item.confidence)}`);
    study.replaceChildren(
      element("h3", {}, item.study_id, ...tags.map((tag) => element("span", { class: "tag" }, tag)),
        ...(item.draft ? [] : [element("span", { class: "tag bad" }, "no draft")])),
      element("div", { class: "pair" },
        element("div", {}, element("h4", {}, "Reference"), element("div", { class: "text" }, markWords(item.reference, item.draft, "lost"))),
        element("div", {}, element("h4", {}, "Draft"), draftElement(item))),
      ...(item.draft ? [element("p", { class: "hint" }, "Marked: words that the other text does not contain.")] : []),
      element("div", { class: "chips" }, ...chips(item.labels)),
      ...(item.evidence.length ? [element("h4", {}, "Evidence"), element("ol", { class: "evidence" },
        ...item.evidence.map((report) => element("li", { "data-report": report.report_id, class: cited.has(report.report_id) ? "cited" : "" },
          element("b", {}, report.report_id), " ", report.text)))] : []),
      element("h4", {}, "Scores of this study"), scoreTable(item),
      ...Object.entries(item.baselines).map(([name, text]) =>
        element("details", {}, element("summary", {}, `Baseline “${name}”`), element("p", { class: "text" }, text))));
  };

  const wrong = (item) => labelNames(item.labels).some((name) => differs(item.labels, name));

  const refresh = () => {
    const query = search.value.trim().toLowerCase(), measure = order.value;
    const isShown = {
      "": () => true, normal: (i) => i.normal, abnormal: (i) => !i.normal,
      missing: (i) => !i.draft, wrong,
    }[filter.value];
    shown = system().studies.filter((item) => isShown(item) && (!query ||
      `${item.study_id} ${item.reference} ${item.draft}`.toLowerCase().includes(query)));
    const sign = system().directions[measure].startsWith("lower") ? -1 : 1;
    const value = (item) => { const v = score(item, measure); return v === null || v === undefined ? Infinity : sign * v; };
    shown.sort((a, b) => value(a) - value(b) || (a.study_id < b.study_id ? -1 : 1));
    list.replaceChildren(...shown.map((item, index) =>
      element("li", { onclick: () => show(index) }, element("span", {}, item.study_id), element("small", {}, number(score(item, measure))))));
    const all = system().studies.length, total = system().total;
    count.textContent = `${shown.length} of ${all} studies` + (total > all ? `, the worst of ${total}` : "");
    show(0);
  };

  const chooseRun = () => {
    order.replaceChildren(...system().measures.map((name) => element("option", {}, name)));
    order.value = system().first;
    refresh();
  };
  run.replaceChildren(...data.runs.map((item) => element("option", {}, item.name)));
  run.parentElement.hidden = data.runs.length < 2;
  run.addEventListener("change", chooseRun);
  for (const node of [order, filter]) node.addEventListener("change", refresh);
  search.addEventListener("input", refresh);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) { event.preventDefault(); show(current + step); }
  });
  chooseRun();
})();
