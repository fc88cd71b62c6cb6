/** The parts of Apache ECharts that the page draws with; a chunk of its own, loaded after the first paint. */

import { BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart } from "echarts/charts";
import { GridComponent, TooltipComponent, VisualMapContinuousComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([
  BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, GridComponent, TooltipComponent,
  VisualMapContinuousComponent, CanvasRenderer,
]);

export const start = init;
