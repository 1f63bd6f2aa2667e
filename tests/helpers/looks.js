// What a page looks like to people who read it another way: in forced colours, by a finger, on a phone.
// Each function lists what it objects to.
({
  // What is drawn or written in nearly the colour that it stands on; grid lines are decoration.
  unseen() {
    const rgb = text => (text.match(/[\d.]+/g) ?? []).map(Number);
    const part = value => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const light = text => { const [r, g, b] = rgb(text).map(part); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const contrast = (a, b) => {
      const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
      return (high + 0.05) / (low + 0.05);
    };
    const solid = paint => paint !== "none" && rgb(paint)[3] !== 0;
    const probe = Object.assign(document.createElement("i"), {style: "background: Canvas"});
    document.body.append(probe);
    const canvas = getComputedStyle(probe).backgroundColor;
    probe.remove();
    const ground = each => {
      for (let at = each; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (solid(colour)) return colour;
      }
      return canvas;
    };
    const shown = each => each.getClientRects().length > 0 && getComputedStyle(each).visibility === "visible";
    const found = [];
    for (const each of document.querySelectorAll("svg :is(line, polyline, circle, text):not(.rx-grid)")) {
      if (!shown(each)) continue;
      const {fill, stroke} = getComputedStyle(each), name = each.tagName, under = ground(each.ownerSVGElement.parentElement);
      const paints = name === "text" ? [fill] : name === "circle" ? [fill, stroke] : [stroke];
      const best = Math.max(0, ...paints.filter(solid).map(paint => contrast(paint, under)));
      if (best < (name === "text" ? 4.5 : 2)) found.push(`${name} ${each.textContent} ${paints} on ${under}`);
      if (name === "text" && solid(stroke) && contrast(stroke, under) > 1.1) found.push(`halo of ${each.textContent}`);
    }
    for (const each of document.querySelectorAll("body *:not(svg *)")) {
      const written = [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim());
      if (!written || each.disabled || !shown(each) || each.matches("script, style")) continue;
      if (contrast(getComputedStyle(each).color, ground(each)) < 4.5) found.push(each.outerHTML.slice(0, 120));
    }
    return found;
  },

  // Whatever takes a press and is less than 24 pixels wide or high; a check box with its label.
  small() {
    return [...document.querySelectorAll("button, select, input, summary, nav a")].filter(each => each.getClientRects().length)
      .map(each => [each, (each.type === "checkbox" ? each.closest("label") : each).getBoundingClientRect()])
      .filter(([, box]) => box.width < 23.9 || box.height < 23.9)
      .map(([each, box]) => `${each.outerHTML.slice(0, 100)} ${box.width.toFixed(0)} x ${box.height.toFixed(0)}`);
  },

  // Words of a chart that cover one another.
  crossed() {
    const shared = (p, q, low, high) => Math.min(p[high], q[high]) - Math.max(p[low], q[low]);
    const charts = [...document.querySelectorAll("svg.rx-chart")].filter(chart => chart.getClientRects().length);
    return charts.flatMap(chart => {
      const words = [...chart.querySelectorAll("text")].filter(each => each.textContent.trim());
      const boxes = words.map(each => [each.textContent, each.getBoundingClientRect()]);
      return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
        .filter(([, q]) => shared(p, q, "left", "right") > 1 && shared(p, q, "top", "bottom") > 3).map(([b]) => `${a} / ${b}`));
    });
  },

  // Whatever is right of the window, or of the box that is named, and in no box that scrolls.
  outside(within) {
    return [...document.querySelectorAll(within)].flatMap(box => {
      const edge = Math.min(innerWidth, box.getBoundingClientRect().right) + 1;
      return [box, ...box.querySelectorAll("*:not(svg *)")]
        .filter(each => each.getBoundingClientRect().right > edge && !each.parentElement.closest(".wide, pre, .rx-wide, .rx-runs"))
        .map(each => each.outerHTML.slice(0, 100));
    });
  },
})
