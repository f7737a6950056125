// Tabs as the ARIA Authoring Practices describe them: one stop for the Tab key, arrows between them.

/** Makes `names` selectable (elements `tab-NAME` and `panel-NAME`); answers a function that selects one. `shown(name)` hears of it. */
export function tabs(names, shown) {
  const tab = (name) => document.getElementById(`tab-${name}`);
  const select = (chosen) => {
    for (const name of names) {
      tab(name).setAttribute("aria-selected", String(name === chosen));
      tab(name).tabIndex = name === chosen ? 0 : -1;
      document.getElementById(`panel-${name}`).hidden = name !== chosen;
    }
    shown(chosen);
  };
  names.forEach((name, index) => {
    tab(name).addEventListener("click", () => select(name));
    tab(name).addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: names.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = names[(to + names.length) % names.length];
      select(next);
      tab(next).focus();
    });
  });
  return select;
}
