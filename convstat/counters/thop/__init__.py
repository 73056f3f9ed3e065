"""thop, which ultralytics-thop took over: the two share an import name and an adapter, and price much alike."""
