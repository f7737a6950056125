// Where the cards of a graph stand and how the lines between them run.

/** The size of a card and the gaps, in CSS pixels. */
export const CARD = { width: 208, height: 66, gapX: 16, gapY: 26, perRow: 3, margin: 6, lane: 26 };

/** `places` ({step, x, y}), `edges` (SVG paths) and the size of the picture. */
export function layout(steps) {
  const graph = new Map(steps.map((step) => [step.id, { step, level: 0, parents: step.depends_on.filter((id) => id !== step.id), above: new Set() }]));
  for (const node of graph.values()) node.parents = node.parents.filter((id) => graph.has(id));
  rank(graph);
  const edges = [];
  for (const node of graph.values()) {
    for (const id of node.parents) {
      // A line that a longer way through the graph implies is left out.
      if (!node.parents.some((other) => other !== id && graph.get(other).above.has(id))) edges.push([graph.get(id), node]);
    }
  }
  const lane = edges.some(([from, to]) => to.level - from.level > 1) ? CARD.lane : 0;
  const rows = arrange(graph);
  const widest = Math.max(0, ...rows.map((row) => row.length));
  const across = (count) => count * CARD.width + Math.max(count - 1, 0) * CARD.gapX;
  rows.forEach((row, index) => {
    const from = CARD.margin + lane + (across(widest) - across(row.length)) / 2;
    row.forEach((node, column) => {
      node.x = from + column * (CARD.width + CARD.gapX);
      node.y = CARD.margin + index * (CARD.height + CARD.gapY);
    });
  });
  return {
    places: [...graph.values()].map(({ step, x, y }) => ({ step, x, y })),
    edges: edges.map(([from, to]) => line(from, to)),
    width: across(widest) + lane + 2 * CARD.margin,
    height: Math.max(rows.length * (CARD.height + CARD.gapY) - CARD.gapY, 0) + 2 * CARD.margin,
  };
}

/** Gives every node the level below its deepest parent, and the set of all nodes above it. */
function rank(graph) {
  for (let round = 0; round < graph.size; round += 1) {
    let changed = false;
    for (const node of graph.values()) {
      const level = Math.max(-1, ...node.parents.map((id) => graph.get(id).level)) + 1;
      if (level !== node.level) { node.level = level; changed = true; }
    }
    if (!changed) break;
  }
  for (const node of [...graph.values()].sort((a, b) => a.level - b.level)) {
    for (const id of node.parents) node.above = new Set([...node.above, id, ...graph.get(id).above]);
  }
}

/** Rows from the top; a level with many steps takes several. */
function arrange(graph) {
  const levels = [];
  for (const node of graph.values()) (levels[node.level] ??= []).push(node);
  return levels.filter(Boolean).flatMap((level) => {
    const rows = [];
    for (let at = 0; at < level.length; at += CARD.perRow) rows.push(level.slice(at, at + CARD.perRow));
    return rows;
  });
}

function line(from, to) {
  if (to.level - from.level > 1) {
    const [y1, y2] = [from.y + CARD.height / 2, to.y + CARD.height / 2];
    const side = Math.min(from.x, to.x) - CARD.lane;
    return `M${from.x} ${y1}C${side} ${y1} ${side} ${y2} ${to.x} ${y2}`;
  }
  const [x1, x2] = [from.x + CARD.width / 2, to.x + CARD.width / 2];
  const [y1, y2] = [from.y + CARD.height, to.y];
  const middle = (y1 + y2) / 2;
  return `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
}
