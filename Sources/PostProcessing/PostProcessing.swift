// PostProcessing
