"use strict";
// The browser of single studies: a list, worst first, and one study in full. Everything is text
// nodes: nothing of a report is ever read as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const [run, order, filter, search, list, study, count] =
    ["run", "order", "filter", "search", "list", "study", "count"].map(at);
  let shown = [], current = 0;

  const make = (name, attributes = {}, ...children) => {
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

  // Words that the other text does not have are marked.
  const marked = (text, other, kind) => {
    if (!other) return text;
    const known = words(other), out = document.createDocumentFragment();
    for (const part of text.split(/([\p{L}\p{N}]+)/u)) {
      const alien = /[\p{L}\p{N}]/u.test(part) && !known.has(part.toLowerCase());
      out.append(alien ? make("mark", { class: kind }, part) : part);
    }
    return out;
  };

  // A finding that one text denies and the other does not mention is no disagreement.
  const isThere = (state) => state === "positive" || state === "uncertain";
  const differs = (labels, name) => labels.reference[name] !== labels.draft[name] &&
    (isThere(labels.reference[name]) || isThere(labels.draft[name]));
  const namesOf = (labels) => Object.keys({ ...labels.reference, ...labels.draft });

  const chips = (labels) => namesOf(labels).map((name) => {
    const truth = labels.reference[name], said = labels.draft[name];
    const words =
      truth === said ? truth
      : said === undefined ? `${truth}, not in the draft`
      : truth === undefined ? `${said}, not in the reference`
      : `${truth}, draft says ${said}`;
    const kind = differs(labels, name) ? (isThere(said) ? "invented" : "missed")
      : isThere(truth) ? "hit" : "";
    return make("span", { class: `chip ${kind}` }, make("b", {}, name), ` ${words}`);
  });

  const light = (ids, on) => {
    for (const item of study.querySelectorAll(".evidence li"))
      if (ids.includes(item.dataset.report)) item.classList.toggle("lit", on);
  };

  const draftOf = (item) => {
    if (!item.draft) return make("p", { class: "text" }, "No draft.");
    if (!item.sentences.length)
      return make("div", { class: "text" }, marked(item.draft, item.reference, "extra"));
    const sentences = item.sentences.map((sentence) =>
      make("span", {
        onmouseenter: () => light(sentence.sources, true),
        onmouseleave: () => light(sentence.sources, false),
      }, marked(sentence.text, item.reference, "extra"),
      ...sentence.sources.map((id) => make("a", { class: "cite" }, `[${id}]`)), " "));
    return make("div", { class: "text" }, ...sentences);
  };

  const scoreTable = (item) => {
    const systems = Object.keys(item.scores);
    const rows = system().measures.map((measure) => make("tr", {}, make("th", { scope: "row" }, measure),
      ...systems.map((name) => make("td", {}, number(item.scores[name][measure])))));
    return make("table", { class: "scores" },
      make("thead", {}, make("tr", {}, make("th", {}, ""), ...systems.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows));
  };

  const show = (place) => {
    current = Math.max(0, Math.min(place, shown.length - 1));
    [...list.children].forEach((node, index) => node.setAttribute("aria-current", index === current));
    const chosen = list.children[current];
    if (chosen) { // within the list only: the page stays where its reader is
      const top = chosen.offsetTop - list.offsetTop;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + chosen.offsetHeight > list.scrollTop + list.clientHeight)
        list.scrollTop = top + chosen.offsetHeight - list.clientHeight;
    }
    const item = shown[current];
    if (!item) { study.replaceChildren(make("p", {}, "No study is like that.")); return; }
    const cited = new Set(item.sentences.flatMap((sentence) => sentence.sources));
    const tags = [item.normal ? "normal reference" : "abnormal reference"];
    if (item.text_in_train) tags.push("text also in train");
    if (item.confidence !== null) tags.push(`confidence ${number(item.confidence)}`);
    study.replaceChildren(
      make("h3", {}, item.study_id, ...tags.map((tag) => make("span", { class: "tag" }, tag)),
        ...(item.draft ? [] : [make("span", { class: "tag bad" }, "no draft")])),
      make("div", { class: "pair" },
        make("div", {}, make("h4", {}, "Reference"), make("div", { class: "text" }, marked(item.reference, item.draft, "lost"))),
        make("div", {}, make("h4", {}, "Draft"), draftOf(item))),
      ...(item.draft ? [make("p", { class: "hint" }, "Marked: words of the reference that the draft does not have, and the other way round.")] : []),
      make("div", { class: "chips" }, ...chips(item.labels)),
      ...(item.evidence.length ? [make("h4", {}, "Evidence"), make("ol", { class: "evidence" },
        ...item.evidence.map((report) => make("li", { "data-report": report.report_id, class: cited.has(report.report_id) ? "cited" : "" },
          make("b", {}, report.report_id), " ", report.text)))] : []),
      make("h4", {}, "Scores of this study"), scoreTable(item),
      ...Object.entries(item.baselines).map(([name, text]) =>
        make("details", {}, make("summary", {}, `What “${name}” would say`), make("p", { class: "text" }, text))));
  };

  const wrong = (item) => namesOf(item.labels).some((name) => differs(item.labels, name));

  const refresh = () => {
    const wanted = search.value.trim().toLowerCase(), measure = order.value;
    const keep = {
      "": () => true, normal: (i) => i.normal, abnormal: (i) => !i.normal,
      missing: (i) => !i.draft, wrong,
    }[filter.value];
    shown = system().studies.filter((item) => keep(item) && (!wanted ||
      `${item.study_id} ${item.reference} ${item.draft}`.toLowerCase().includes(wanted)));
    const sign = system().directions[measure].startsWith("lower") ? -1 : 1;
    const value = (item) => { const v = score(item, measure); return v === null || v === undefined ? Infinity : sign * v; };
    shown.sort((a, b) => value(a) - value(b) || (a.study_id < b.study_id ? -1 : 1));
    list.replaceChildren(...shown.map((item, index) =>
      make("li", { onclick: () => show(index) }, make("span", {}, item.study_id), make("small", {}, number(score(item, measure))))));
    const all = system().studies.length, total = system().total;
    count.textContent = `${shown.length} of ${all} studies` + (total > all ? `, the worst of ${total}` : "");
    show(0);
  };

  const chooseRun = () => {
    order.replaceChildren(...system().measures.map((name) => make("option", {}, name)));
    order.value = system().first;
    refresh();
  };
  run.replaceChildren(...data.runs.map((item) => make("option", {}, item.name)));
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
